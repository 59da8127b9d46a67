// What rings, what is about to, and the rules behind it, by group.
import { type ActiveAlert, type AlertingRule, type Labels, type Rule, type RuleGroup, ruleGroups } from '../api'
import { duration, number, short, took } from '../format'
import { Ago, Badge, type Choice, Choices, Code, Empty, Failure, Filter, LabelSet, Loading, labelTexts, matches, type Tone } from '../parts'
import { usePolled } from '../poll'
import { change, href } from '../route'

const REFRESH_SECONDS = 5
// A rule shows this many of its alerts, those that fire and the oldest first, until it is asked for all.
const SHOWN = 20
type State = AlertingRule['state']
const TONES: Readonly<Record<State, Tone>> = { firing: 'bad', pending: 'warn', inactive: 'good', unknown: 'calm' }

/** What needs a look stands first: each AlertRule is a group of its own, and there may be hundreds. */
function urgency(rule: Rule): number {
  const state = rule.type === 'alerting' ? rule.state : 'inactive'
  if (state === 'firing') return 0
  return rule.health === 'err' ? 1 : state === 'pending' ? 2 : 3
}

function wanted(rule: Rule, state: string, filter: string): boolean {
  if (rule.type === 'recording') {
    return state === 'recording' && matches(filter, [rule.name, rule.query, ...labelTexts(rule.labels ?? {})])
  }
  const alerts = (rule.alerts ?? []).flatMap((alert) => labelTexts(alert.labels))
  return (
    (state === 'all' || rule.state === state) &&
    matches(filter, [rule.name, rule.query, ...labelTexts(rule.labels ?? {}), ...labelTexts(rule.annotations ?? {}), ...alerts])
  )
}

export function AlertsPage({ params }: { params: URLSearchParams }) {
  const { data, error, loading } = usePolled('rules', ruleGroups, REFRESH_SECONDS)
  const filter = params.get('q') ?? ''
  const state = params.get('state') ?? 'all'
  const rules = data?.flatMap((group) => group.rules) ?? []
  const count = (type: Rule['type'], is?: State) =>
    rules.filter((rule) => rule.type === type && (is === undefined || (rule.type === 'alerting' && rule.state === is))).length
  const choices: readonly Choice[] = [
    { value: 'all', text: 'All alerts', count: count('alerting') },
    { value: 'firing', text: 'Firing', count: count('alerting', 'firing') },
    { value: 'pending', text: 'Pending', count: count('alerting', 'pending') },
    { value: 'inactive', text: 'Inactive', count: count('alerting', 'inactive') },
    { value: 'recording', text: 'Recording rules', count: count('recording') },
  ]
  const groups = data?.map((group) => ({ group, shown: group.rules.filter((rule) => wanted(rule, state, filter)) }))
    .filter(({ shown }) => shown.length > 0)
    .map((one) => ({ ...one, first: Math.min(...one.shown.map(urgency)) }))
    .sort((a, b) => a.first - b.first)
  return (
    <>
      <div class="bar">
        <h1>Alerts</h1>
        <Filter value={filter} label="Filter alerts" hint="Filter by name, label, expression" />
        <Choices param="state" label="State" value={state} usual="all" choices={choices} />
      </div>
      <Failure error={error} doing="load the rules" />
      {loading && <Loading what="rules" />}
      {data !== undefined && rules.length === 0 && <NoRules />}
      {groups?.length === 0 && rules.length > 0 && (
        <Empty title={state === 'firing' && filter === '' ? 'Nothing fires' : 'No rule matches'}>
          <p>
            <button type="button" onClick={() => change({ q: undefined, state: undefined })}>Show all alerts</button>
          </p>
        </Empty>
      )}
      {groups?.map(({ group, shown }) => (
        <GroupSection key={`${group.file} ${group.name}`} group={group} shown={shown} whole={params.get('whole') ?? ''} />
      ))}
    </>
  )
}

function GroupSection({ group, shown, whole }: { group: RuleGroup; shown: readonly Rule[]; whole: string }) {
  return (
    <section class="card" aria-label={`Group ${group.name}`}>
      <header>
        <h2>{group.name}</h2>
        <span class="muted">
          {group.file} · every {duration(group.interval)}
        </span>
      </header>
      {shown.map((rule, index) => (
        <RuleItem key={`${rule.name} ${index}`} rule={rule} place={`${group.name}/${rule.name}`} whole={whole} />
      ))}
    </section>
  )
}

function RuleItem({ rule, place, whole }: { rule: Rule; place: string; whole: string }) {
  const alerting = rule.type === 'alerting' ? rule : undefined
  const alerts = alerting?.alerts ?? []
  return (
    <article class={`rule ${alerting?.state ?? 'recording'}`}>
      <header>
        {alerting && <Badge tone={rule.health === 'err' ? 'calm' : TONES[alerting.state]}>{alerting.state}</Badge>}
        {rule.health === 'err' && <Badge tone="bad">error</Badge>}
        <h3>{rule.name}</h3>
        {Object.keys(rule.labels ?? {}).length > 0 && <LabelSet labels={rule.labels ?? {}} />}
      </header>
      <a class="expr" href={href('query', { expr: rule.query })} title="Open as a query">
        <code>{rule.query}</code>
      </a>
      <p class="muted facts">
        {alerting !== undefined && alerting.duration > 0 && <span>for {duration(alerting.duration)}</span>}
        {alerting?.keepFiringFor !== undefined && alerting.keepFiringFor > 0 && (
          <span>keeps firing for {duration(alerting.keepFiringFor)}</span>
        )}
        <span>
          evaluated <Ago time={rule.lastEvaluation} />
        </span>
        <span>took {took(rule.evaluationTime)}</span>
      </p>
      {rule.lastError !== undefined && rule.lastError !== '' && (
        <p class="notice bad">
          <strong>Cannot evaluate.</strong> {rule.lastError}
        </p>
      )}
      {alerts.length > 0 ? <AlertTable alerts={alerts} place={place} whole={whole === place} /> : alerting && <Annotations annotations={alerting.annotations ?? {}} />}
    </article>
  )
}

function AlertTable({ alerts, place, whole }: { alerts: readonly ActiveAlert[]; place: string; whole: boolean }) {
  const sorted = [...alerts].sort((a, b) => a.state.localeCompare(b.state) || a.activeAt.localeCompare(b.activeAt))
  const shown = whole ? sorted : sorted.slice(0, SHOWN)
  return (
    <>
      <table class="stacking">
        <thead>
          <tr>
            <th scope="col">State</th>
            <th scope="col">Labels</th>
            <th scope="col">Since</th>
            <th scope="col" class="num">Value</th>
          </tr>
        </thead>
        <tbody>
          {shown.map((alert) => (
            <tr key={JSON.stringify(alert.labels)}>
              <td data-title="State">
                <Badge tone={TONES[alert.state]}>{alert.state}</Badge>
              </td>
              <td data-title="Labels">
                <LabelSet labels={alert.labels} omit={['alertname']} />
                <Annotations annotations={alert.annotations} />
              </td>
              <td data-title="Since" class="nowrap">
                <Ago time={alert.activeAt} />
              </td>
              <td data-title="Value" class="num" title={alert.value}>
                {short(number(alert.value))}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {shown.length < sorted.length && (
        <p>
          <button type="button" onClick={() => change({ whole: place })}>Show all {sorted.length}</button>
        </p>
      )}
    </>
  )
}

function Annotations({ annotations }: { annotations: Labels }) {
  const entries = Object.entries(annotations)
  if (entries.length === 0) return null
  return (
    <dl class="annotations">
      {entries.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{/^https?:\/\//.test(value) ? <a href={value} rel="noopener noreferrer">{value}</a> : value}</dd>
        </div>
      ))}
    </dl>
  )
}

const FIRST_RULE = `kubectl explain alertrule.spec     # what it can say
kubectl apply -f my-alertrule.yaml
kubectl get alertrules -A          # its state, and what is wrong with it`

function NoRules() {
  return (
    <Empty title="No rules yet">
      <p>
        On Kubernetes, an <code>AlertRule</code> says when to ring, and an <code>AlertReceiver</code> says where.
      </p>
      <Code>{FIRST_RULE}</Code>
      <p>
        Try its expression on the <a href={href('query')}>query page</a> first. Without Kubernetes, name rule files under{' '}
        <code>rule_files</code> in <code>prometheus.yml</code>.
      </p>
    </Empty>
  )
}
