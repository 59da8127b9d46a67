// Each machine by its name: a row of small graphs; the name leads to its page.
import { duration, age, bytesPerSecond, type Format, percent, short } from '../format'
import { last, Spark, type Values } from '../graph'
import { type Figure, type Machine, overview } from '../node-figures'
import { Badge, Code, Empty, Failure, Filter, Loading, labelTexts, matches } from '../parts'
import { usePolled } from '../poll'
import { DEFAULT_RANGE, gridOf, RangeChoices, rangeSeconds } from '../ranges'
import { change, href } from '../route'
import { NodePage } from './node'

const REFRESH_SECONDS = 10
const POINTS = 120
// As many rows as one may still scroll through; the filter finds the others.
const SHOWN = 100

interface Column {
  readonly figure: Figure
  readonly title: string
  readonly format: Format
  readonly most?: number
  /** From here on it deserves a look. */
  readonly warn?: (value: number, machine: Machine) => boolean
}
const COLUMNS: readonly Column[] = [
  { figure: 'cpu', title: 'CPU', format: percent, most: 1, warn: (value) => value > 0.9 },
  { figure: 'memory', title: 'Memory', format: percent, most: 1, warn: (value) => value > 0.9 },
  { figure: 'load', title: 'Load', format: short, warn: (value, { cores }) => cores !== undefined && value > 2 * cores },
  { figure: 'filesystem', title: 'Fullest disk', format: percent, most: 1, warn: (value) => value > 0.85 },
  { figure: 'receive', title: 'Received', format: bytesPerSecond },
  { figure: 'transmit', title: 'Sent', format: bytesPerSecond },
]

export function NodesPage({ params }: { params: URLSearchParams }) {
  const seconds = rangeSeconds(params)
  const node = params.get('node')
  const { data: newest, before, error, loading } = usePolled(
    `nodes ${seconds}`,
    (signal) => overview(gridOf({ seconds, points: POINTS, end: Date.now() / 1000 }), signal),
    REFRESH_SECONDS,
  )
  const data = newest ?? before
  const ranges = (
    <RangeChoices given={params.get('range') ?? DEFAULT_RANGE} />
  )
  if (node) {
    return (
      <>
        <div class="bar">
          <p class="crumb"><a href={href('nodes', { range: params.get('range') ?? undefined })}>Nodes</a> /</p>
          <h1>{node}</h1>
          {ranges}
        </div>
        <Failure error={error} doing="load the node" />
        {loading && data === undefined && <Loading what={`node ${node}`} />}
        {data && <NodePage name={node} seconds={seconds} machine={data.machines.find((found) => found.name === node)} />}
      </>
    )
  }
  const filter = params.get('q') ?? ''
  const shown = data?.machines.filter((machine) =>
    matches(filter, [machine.name, machine.system, ...machine.sources.flatMap((labels) => labelTexts(labels))]))
  return (
    <>
      <div class="bar">
        <h1>Nodes</h1>
        <Filter value={filter} label="Filter nodes" hint="Filter by name or instance" />
        {ranges}
      </div>
      <Failure error={error} doing="load the nodes" />
      {loading && data === undefined && <Loading what="nodes" />}
      {data?.machines.length === 0 && <NoNodes />}
      {data !== undefined && data.machines.length > 0 && shown?.length === 0 && (
        <Empty title="No node matches">
          <p>
            <button type="button" onClick={() => change({ q: undefined })}>Show all {data.machines.length}</button>
          </p>
        </Empty>
      )}
      {shown !== undefined && shown.length > 0 && (
        <div class={newest === undefined ? 'card old' : 'card'}>
          <table class="nodes">
            <caption class="sr">Nodes and their figures over the last {duration(seconds)}</caption>
            <thead>
              <tr>
                <th scope="col">Node</th>
                {COLUMNS.map(({ title }) => <th scope="col" key={title}>{title}</th>)}
              </tr>
            </thead>
            <tbody>
              {shown.slice(0, SHOWN).map((machine) => (
                <NodeRow key={machine.name} machine={machine} range={params.get('range') ?? undefined} />
              ))}
            </tbody>
          </table>
          {shown.length > SHOWN && <p class="muted inset">{shown.length - SHOWN} more: filter to see them.</p>}
        </div>
      )}
    </>
  )
}

function NodeRow({ machine, range }: { machine: Machine; range: string | undefined }) {
  return (
    <tr>
      <th scope="row">
        <a class="name" href={href('nodes', { node: machine.name, range })}>{machine.name}</a>
        {!machine.present && <Badge tone="bad">no data now</Badge>}
        <div class="muted">
          {machine.cores !== undefined && `${machine.cores} ${machine.cores === 1 ? 'core' : 'cores'}`}
          {machine.uptimeSeconds !== undefined && ` · up ${age(machine.uptimeSeconds)}`}
        </div>
      </th>
      {COLUMNS.map((column, index) => (
        <FigureCell key={column.figure} column={column} machine={machine} values={machine.figures[column.figure]} colour={index} />
      ))}
    </tr>
  )
}

function FigureCell({ column, machine, values, colour }: { column: Column; machine: Machine; values: Values; colour: number }) {
  const value = machine.present ? last(values, 3) : undefined
  const text = value === undefined ? '–' : column.format(value)
  const warn = value !== undefined && column.warn?.(value, machine) === true
  return (
    <td data-title={column.title}>
      <span class={warn ? 'figure warn' : 'figure'}>{text}</span>
      <Spark values={values} colour={colour} name={`${column.title} of ${machine.name}, now ${text}`} {...(column.most === undefined ? {} : { most: column.most })} />
    </td>
  )
}

const FIRST_NODES = `kubectl get monitoringstacks -A                 # is there one, and is it ready?
kubectl explain monitoringstack.spec.nodeExporter`

function NoNodes() {
  return (
    <Empty title="No nodes yet">
      <p>
        This page shows the <code>node_*</code> metrics of node exporters. On Kubernetes, a <code>MonitoringStack</code> brings
        one to each node; it takes a minute until two scrapes are there.
      </p>
      <Code>{FIRST_NODES}</Code>
      <p>
        Elsewhere, run <code>bellbuoy node-exporter</code> on each machine, or <code>bellbuoy up</code>, or any node_exporter,
        and have it scraped. <a href={href('targets', { q: 'node' })}>Is it among the targets?</a>
      </p>
    </Empty>
  )
}
