// What is scraped, by pool: is it up, and if not, why.
import { type Target, type Targets, targets } from '../api'
import { duration, parseDuration, took } from '../format'
import { Ago, Badge, type Choice, Choices, Code, Empty, Failure, Filter, LabelSet, Loading, labelTexts, matches, type Tone } from '../parts'
import { usePolled } from '../poll'
import { change, parse } from '../route'

const REFRESH_SECONDS = 5
// A pool shows this many, the sick ones first, until it is asked for all.
const SHOWN = 20
// With more targets than this, only pools in which something is wrong are open at first.
const FEW = 200
const TONES: Readonly<Record<Target['health'], Tone>> = { up: 'good', down: 'bad', unknown: 'calm' }
const SICK_FIRST: Readonly<Record<Target['health'], number>> = { down: 0, unknown: 1, up: 2 }

interface Pool {
  readonly name: string
  readonly all: readonly Target[]
  readonly shown: readonly Target[]
}

function pools(answer: Targets, wanted: (target: Target) => boolean): readonly Pool[] {
  const byName = new Map<string, Target[]>(answer.pools.map((name) => [name, []]))
  for (const target of answer.active) {
    const pool = byName.get(target.scrapePool)
    if (pool === undefined) byName.set(target.scrapePool, [target])
    else pool.push(target)
  }
  return [...byName]
    .map(([name, all]) => ({
      name,
      all,
      shown: all
        .filter(wanted)
        .sort((a, b) => SICK_FIRST[a.health] - SICK_FIRST[b.health] || a.scrapeUrl.localeCompare(b.scrapeUrl)),
    }))
    .sort((a, b) => a.name.localeCompare(b.name))
}

export function TargetsPage({ params }: { params: URLSearchParams }) {
  const { data, error, loading } = usePolled('targets', targets, REFRESH_SECONDS)
  const filter = params.get('q') ?? ''
  const health = params.get('health') ?? 'all'
  const closed = (params.get('closed') ?? '').split(',')
  const opened = (params.get('open') ?? '').split(',')
  const whole = params.get('whole') ?? ''
  const active = data?.active ?? []
  const count = (wanted: Target['health']) => active.filter((target) => target.health === wanted).length
  const choices: readonly Choice[] = [
    { value: 'all', text: 'All', count: active.length },
    { value: 'up', text: 'Up', count: count('up') },
    { value: 'down', text: 'Down', count: count('down') },
    { value: 'unknown', text: 'Not scraped yet', count: count('unknown') },
  ]
  const filtered = filter !== '' || health !== 'all'
  const list = data && pools(data, (target) =>
    (health === 'all' || target.health === health) &&
    matches(filter, [target.scrapePool, target.scrapeUrl, target.lastError, ...labelTexts(target.labels)]))
  const visible = list?.filter((pool) => pool.shown.length > 0 || !filtered) ?? []
  const isOpen = ({ name, all }: Pool) =>
    opened.includes(name) || (!closed.includes(name) && (filtered || active.length <= FEW || all.some((target) => target.health === 'down')))
  return (
    <>
      <div class="bar">
        <h1>Targets</h1>
        <Filter value={filter} label="Filter targets" hint="Filter by pool, address, label or error" />
        <Choices param="health" label="Health" value={health} usual="all" choices={choices} />
      </div>
      <Failure error={error} doing="load the targets" />
      {loading && <Loading what="targets" />}
      {list?.length === 0 && <NoTargets />}
      {list !== undefined && list.length > 0 && visible.length === 0 && (
        <Empty title="No target matches">
          <p>
            <button type="button" onClick={() => change({ q: undefined, health: undefined })}>Show all {active.length}</button>
          </p>
        </Empty>
      )}
      {visible.map((pool) => (
        <PoolSection key={pool.name} pool={pool} open={isOpen(pool)} whole={whole === pool.name} />
      ))}
    </>
  )
}

function PoolSection({ pool, open, whole }: { pool: Pool; open: boolean; whole: boolean }) {
  const up = pool.all.filter((target) => target.health === 'up').length
  const shown = whole ? pool.shown : pool.shown.slice(0, SHOWN)
  return (
    <details class="card" open={open} onToggle={(event) => event.currentTarget.open !== open && remember(pool.name, event.currentTarget.open)}>
      <summary>
        <h2>{pool.name}</h2>
        {pool.all.length === 0 ? <Badge tone="calm">no targets</Badge> : (
          <Badge tone={up === pool.all.length ? 'good' : 'bad'}>{up} of {pool.all.length} up</Badge>
        )}
      </summary>
      {pool.all.length === 0 && <p class="muted inset">Nothing was found to scrape here, or relabeling dropped all of it.</p>}
      {open && shown.length > 0 && (
        <table class="stacking targets">
          <thead>
            <tr>
              <th scope="col">Target</th>
              <th scope="col">Health</th>
              <th scope="col">Labels</th>
              <th scope="col">Last scrape</th>
              <th scope="col" class="num">Took</th>
            </tr>
          </thead>
          <tbody>
            {shown.map((target) => (
              <TargetRow key={target.scrapeUrl + JSON.stringify(target.labels)} target={target} />
            ))}
          </tbody>
        </table>
      )}
      {shown.length < pool.shown.length && (
        <p class="inset">
          <button type="button" onClick={() => change({ whole: pool.name })}>
            Show all {pool.shown.length}
          </button>
        </p>
      )}
    </details>
  )
}

function remember(pool: string, open: boolean): void {
  const { params } = parse(location.hash)
  const others = (name: string) => (params.get(name) ?? '').split(',').filter((other) => other !== '' && other !== pool)
  const into = (name: string, mine: boolean) => [...others(name), ...(mine ? [pool] : [])].join(',')
  change({ open: into('open', open), closed: into('closed', !open) }, { replace: true })
}

function TargetRow({ target }: { target: Target }) {
  const every = parseDuration(target.scrapeInterval ?? '')
  return (
    <tr class={target.health}>
      <th scope="row" data-title="Target">
        <a class="url" href={target.scrapeUrl} rel="noopener noreferrer">
          {target.scrapeUrl}
        </a>
        {target.lastError !== '' && <p class="error">{target.lastError}</p>}
      </th>
      <td data-title="Health">
        <Badge tone={TONES[target.health]}>{target.health}</Badge>
      </td>
      <td data-title="Labels">
        <LabelSet labels={target.labels} />
      </td>
      <td data-title="Last scrape" class="nowrap">
        <Ago time={target.lastScrape} />
        {every !== undefined && <div class="muted">every {duration(every)}</div>}
      </td>
      <td data-title="Took" class="num nowrap">
        {took(target.lastScrapeDuration)}
      </td>
    </tr>
  )
}

const FIRST_TARGET = `kubectl explain scrapetarget.spec     # what it can say
kubectl apply -f my-scrapetarget.yaml
kubectl get scrapetargets -A          # what it matched, and why not`

function NoTargets() {
  return (
    <Empty title="No targets yet">
      <p>
        On Kubernetes, a <code>ScrapeTarget</code> says what to scrape: pods by their labels, or addresses.
      </p>
      <Code>{FIRST_TARGET}</Code>
      <p>
        There are some, and none is here? <code>MonitoringStack.spec.selects</code> says from which namespaces this stack
        takes them. Without Kubernetes, add <code>scrape_configs</code> to <code>prometheus.yml</code>.
      </p>
    </Empty>
  )
}
