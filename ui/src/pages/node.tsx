// One machine: what it does with its processors, memory, disks and wires, over time.
import { type Grid, type Labels, queryRange, vector } from '../api'
import { age, bytes, bytesPerSecond, type Format, number, percent, short } from '../format'
import { Graph, gridTimes, type Line } from '../graph'
import { DISKS, lines, type Machine, WIRES } from '../node-figures'
import { Badge, Empty, Failure, Loading } from '../parts'
import { usePolled } from '../poll'
import { gridOf, rateWindow } from '../ranges'
import { change, href } from '../route'

const REFRESH_SECONDS = 10
const POINTS = 240

interface Panel {
  readonly title: string
  readonly format: Format
  readonly least?: number
  readonly most?: number
  /** Each question's series become lines, named by one of their labels and a word. */
  readonly questions: (here: string, window: string) => readonly Question[]
}
type Question = readonly [expr: string, word: string, by?: string]

const PANELS: readonly Panel[] = [
  {
    title: 'CPU by mode', format: percent, least: 0,
    questions: (here, w) => [
      [`sum by (mode) (rate(node_cpu_seconds_total{mode!="idle",${here}}[${w}])) / on() group_left sum(rate(node_cpu_seconds_total{${here}}[${w}]))`, '', 'mode'],
    ],
  },
  {
    title: 'Memory', format: bytes, least: 0,
    questions: (here) => [
      [`max(node_memory_MemTotal_bytes{${here}})`, 'total'],
      [`max(node_memory_MemTotal_bytes{${here}} - node_memory_MemAvailable_bytes{${here}})`, 'used'],
      [`max(node_memory_Cached_bytes{${here}})`, 'page cache'],
      [`max(node_memory_SwapTotal_bytes{${here}} - node_memory_SwapFree_bytes{${here}})`, 'swap used'],
    ],
  },
  {
    title: 'Load', format: short, least: 0,
    questions: (here) => [
      [`max(node_load1{${here}})`, '1 minute'],
      [`max(node_load5{${here}})`, '5 minutes'],
      [`max(node_load15{${here}})`, '15 minutes'],
    ],
  },
  {
    title: 'Network', format: bytesPerSecond, least: 0,
    questions: (here, w) => [
      [`max by (device) (rate(node_network_receive_bytes_total{${WIRES},${here}}[${w}]))`, 'received', 'device'],
      [`max by (device) (rate(node_network_transmit_bytes_total{${WIRES},${here}}[${w}]))`, 'sent', 'device'],
    ],
  },
  {
    title: 'Disk space used', format: percent, least: 0, most: 1,
    questions: (here) => [
      [`max by (mountpoint) (1 - node_filesystem_avail_bytes{${DISKS},${here}} / node_filesystem_size_bytes{${DISKS},${here}})`, '', 'mountpoint'],
    ],
  },
  {
    title: 'Disk traffic', format: bytesPerSecond, least: 0,
    questions: (here, w) => [
      [`max by (device) (rate(node_disk_read_bytes_total{device!~"loop.*|ram.*|dm-.*",${here}}[${w}]))`, 'read', 'device'],
      [`max by (device) (rate(node_disk_written_bytes_total{device!~"loop.*|ram.*|dm-.*",${here}}[${w}]))`, 'written', 'device'],
    ],
  },
  {
    title: 'Pressure: time spent waiting', format: percent, least: 0,
    questions: (here, w) => [
      [`max(rate(node_pressure_cpu_waiting_seconds_total{${here}}[${w}]))`, 'for CPU'],
      [`max(rate(node_pressure_memory_waiting_seconds_total{${here}}[${w}]))`, 'for memory'],
      [`max(rate(node_pressure_io_waiting_seconds_total{${here}}[${w}]))`, 'for disks'],
    ],
  },
]

/** A matcher of the machine's scrapes, whichever addresses they had. */
function matcher(sources: readonly Labels[]): string {
  const escaped = [...new Set(sources.map((labels) => labels['instance'] ?? ''))]
    .map((instance) => instance.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
  return `instance=~${JSON.stringify(escaped.join('|'))}`
}

interface Drawn {
  readonly times: readonly number[]
  readonly lines: readonly Line[]
}

async function draw(panel: Panel, here: string, grid: Grid, signal: AbortSignal): Promise<Drawn> {
  const drawn = await Promise.all(
    panel.questions(here, rateWindow(grid)).map(async ([expr, word, by]) => {
      const name = (labels: Labels) => [by === undefined ? '' : labels[by], word].filter(Boolean).join(' ')
      return lines((await queryRange(expr, grid, signal)).data, grid, name)
    }),
  )
  return { times: gridTimes(grid), lines: drawn.flat() }
}

/** All questions of a panel as one expression, for the query page. */
function asQuery(questions: readonly Question[]): string {
  if (questions.length === 1) return questions[0]?.[0] ?? ''
  return questions.map(([expr, word]) => `label_replace(${expr}, "line", "${word}", "", "")`).join('\nor\n')
}

export function NodePage({ name, machine, seconds }: { name: string; machine: Machine | undefined; seconds: number }) {
  if (machine === undefined) {
    return (
      <Empty title="No such node in this time">
        <p>
          {name} told nothing here. Look at <button type="button" onClick={() => change({ range: '7d' })}>the last 7 days</button>{' '}
          or at <a href={href('targets', { q: name })}>the targets</a>.
        </p>
      </Empty>
    )
  }
  const here = matcher(machine.sources)
  return (
    <>
      <p class="facts muted">
        {machine.present ? <Badge tone="good">present</Badge> : <Badge tone="bad">no data now</Badge>}
        {machine.system !== '' && <span>{machine.system}</span>}
        {machine.cores !== undefined && <span>{machine.cores} {machine.cores === 1 ? 'core' : 'cores'}</span>}
        {machine.uptimeSeconds !== undefined && <span>up {age(machine.uptimeSeconds)}</span>}
        {machine.sources.map((source) => (
          <a key={JSON.stringify(source)} href={href('targets', { q: source['instance'] })}>{source['job']} {source['instance']}</a>
        ))}
      </p>
      <div class="panels">
        {PANELS.map((panel) => (
          <PanelCard key={panel.title} panel={panel} node={name} here={here} seconds={seconds} />
        ))}
        <Filesystems here={here} />
      </div>
    </>
  )
}

function PanelCard({ panel, node, here, seconds }: { panel: Panel; node: string; here: string; seconds: number }) {
  const { data: newest, before, error, loading } = usePolled(
    `${panel.title} ${here} ${seconds}`,
    (signal) => draw(panel, here, gridOf({ seconds, points: POINTS, end: Date.now() / 1000 }), signal),
    REFRESH_SECONDS,
  )
  const data = newest ?? before
  return (
    <section class={newest === undefined ? 'card panel old' : 'card panel'} aria-label={panel.title}>
      <header>
        <h2>{panel.title}</h2>
        <a href={href('query', { expr: asQuery(panel.questions(here, '5m')), range: `${seconds}s` })}>as a query</a>
      </header>
      <Failure error={error} doing="load this graph" />
      {loading && data === undefined && <Loading what="graph" />}
      {data?.lines.length === 0 && <p class="muted inset">This node does not tell.</p>}
      {data !== undefined && data.lines.length > 0 && (
        <Graph
          name={`${panel.title} of ${node}`}
          times={data.times}
          lines={data.lines}
          format={panel.format}
          height={180}
          {...(panel.least === undefined ? {} : { least: panel.least })}
          {...(panel.most === undefined ? {} : { most: panel.most })}
        />
      )}
    </section>
  )
}

interface Filesystem {
  readonly mountpoint: string
  readonly device: string
  readonly type: string
  readonly size: number
  readonly free: number
}

async function filesystems(here: string, signal: AbortSignal): Promise<readonly Filesystem[]> {
  const by = 'max by (mountpoint, device, fstype)'
  const [sizes, free] = await Promise.all([
    vector(`${by} (node_filesystem_size_bytes{${DISKS},${here}})`, signal),
    vector(`${by} (node_filesystem_avail_bytes{${DISKS},${here}})`, signal),
  ])
  const key = (labels: Labels) => JSON.stringify([labels['mountpoint'], labels['device']])
  const available = new Map(free.map(({ metric, value }) => [key(metric), number(value?.[1] ?? '')]))
  return sizes
    .map(({ metric, value }) => ({
      mountpoint: metric['mountpoint'] ?? '',
      device: metric['device'] ?? '',
      type: metric['fstype'] ?? '',
      size: number(value?.[1] ?? ''),
      free: available.get(key(metric)) ?? NaN,
    }))
    .sort((a, b) => a.mountpoint.localeCompare(b.mountpoint))
}

function Filesystems({ here }: { here: string }) {
  const { data, error, loading } = usePolled(`filesystems ${here}`, (signal) => filesystems(here, signal), REFRESH_SECONDS)
  return (
    <section class="card panel" aria-label="Filesystems">
      <header><h2>Filesystems</h2></header>
      <Failure error={error} doing="load the filesystems" />
      {loading && <Loading what="filesystems" />}
      {data?.length === 0 && <p class="muted inset">This node tells of none.</p>}
      {data !== undefined && data.length > 0 && (
        <table class="compact">
          <thead>
            <tr>
              <th scope="col">Mounted at</th>
              <th scope="col" class="num">Size</th>
              <th scope="col" class="num">Free</th>
              <th scope="col" class="num">Used</th>
            </tr>
          </thead>
          <tbody>
            {data.map((disk) => (
              <tr key={disk.mountpoint + disk.device}>
                <th scope="row">{disk.mountpoint} <span class="muted">{disk.device} {disk.type}</span></th>
                <td class="num nowrap">{bytes(disk.size)}</td>
                <td class="num nowrap">{bytes(disk.free)}</td>
                <td class="num nowrap">{disk.size > 0 ? percent(1 - disk.free / disk.size) : '–'}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </section>
  )
}
