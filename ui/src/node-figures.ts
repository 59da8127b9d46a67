// The questions about machines, in PromQL over node_exporter's metrics, and the machines that the answers describe.
//
// A machine's name is the label `node` where scrapes carry it, else the `nodename` that the same instance told with
// node_uname_info, else the instance. So a machine whose exporter comes back at another address stays one machine.
import { type Grid, type InstantSeries, type Labels, queryRange, type RangeSeries, vector } from './api'
import { last, onGrid } from './graph'
import { number } from './format'
import { rateWindow } from './ranges'

const BY = 'by (job, instance, node)'
export const DISKS = 'fstype!~"tmpfs|ramfs|squashfs|iso9660|nsfs"'
// Devices that count what another device counts again, or what never leaves the machine.
export const WIRES = 'device!~"lo|veth.*|cali.*|cni.*|docker.*|br-.*|virbr.*|flannel.*|cilium.*|lxc.*|tunl.*|dummy.*|kube-.*"'

/** One machine, one graph each. */
export const FIGURES = {
  // A share of all modes and not of the clock: right from the second sample on, when a window is not full yet.
  cpu: (w: string) => `1 - sum ${BY} (rate(node_cpu_seconds_total{mode="idle"}[${w}])) / sum ${BY} (rate(node_cpu_seconds_total[${w}]))`,
  memory: () => `1 - sum ${BY} (node_memory_MemAvailable_bytes) / sum ${BY} (node_memory_MemTotal_bytes)`,
  load: () => `max ${BY} (node_load1)`,
  filesystem: () => `max ${BY} (1 - node_filesystem_avail_bytes{${DISKS}} / node_filesystem_size_bytes{${DISKS}})`,
  receive: (w: string) => `sum ${BY} (rate(node_network_receive_bytes_total{${WIRES}}[${w}]))`,
  transmit: (w: string) => `sum ${BY} (rate(node_network_transmit_bytes_total{${WIRES}}[${w}]))`,
} as const
export type Figure = keyof typeof FIGURES

export interface Machine {
  readonly name: string
  /** The scrapes that told of it, by `job` and `instance`. */
  readonly sources: readonly Labels[]
  /** It told of itself just now. */
  readonly present: boolean
  readonly system: string
  readonly cores: number | undefined
  readonly uptimeSeconds: number | undefined
  readonly figures: Readonly<Record<Figure, readonly (number | null)[]>>
}

export interface Namer {
  (labels: Labels): string
}

/** How machines are called, from the node_uname_info of the time looked at and of now. */
export function namer(known: readonly InstantSeries[], present: readonly InstantSeries[]): Namer {
  const names = new Map<string, string>()
  for (const { metric } of [...known, ...present]) names.set(metric['instance'] ?? '', metric['nodename'] ?? '')
  // Two machines may have one host name, as `localhost`: then the instance tells them apart.
  const instances = new Map<string, Set<string>>()
  for (const { metric } of present) {
    if (metric['node']) continue
    const of = instances.get(metric['nodename'] ?? '') ?? new Set()
    instances.set(metric['nodename'] ?? '', of.add(metric['instance'] ?? ''))
  }
  return (labels) => {
    const instance = labels['instance'] ?? ''
    if (labels['node']) return labels['node']
    const name = names.get(instance)
    if (!name) return instance
    return (instances.get(name)?.size ?? 0) > 1 ? `${name} (${instance})` : name
  }
}

export interface Overview {
  readonly grid: Grid
  readonly machines: readonly Machine[]
  /** There is none since the server has no metric of node_exporter at all. */
  readonly namer: Namer
}

interface Gathering {
  sources: Map<string, Labels>
  present: boolean
  system: string
  cores: number | undefined
  uptimeSeconds: number | undefined
  figures: Record<Figure, (number | null)[]>
}

/** Later values win where two sources tell of one machine at one time. */
function merge(into: (number | null)[], values: readonly (number | null)[]): void {
  values.forEach((value, index) => {
    if (value !== null) into[index] = value
  })
}

export async function overview(grid: Grid, signal: AbortSignal): Promise<Overview> {
  const window = rateWindow(grid)
  const names = Object.keys(FIGURES) as Figure[]
  const [present, known, cores, uptimes, ...answers] = await Promise.all([
    vector('node_uname_info', signal),
    vector(`last_over_time(node_uname_info[${Math.max(grid.end - grid.start, 300)}s])`, signal),
    vector(`count ${BY} (node_cpu_seconds_total{mode="idle"})`, signal),
    vector(`time() - max ${BY} (node_boot_time_seconds)`, signal),
    ...names.map(async (name) => (await queryRange(FIGURES[name](window), grid, signal)).data),
  ] as const)
  const nameOf = namer(known, present)
  const machines = new Map<string, Gathering>()
  const machine = (labels: Labels): Gathering => {
    const name = nameOf(labels)
    let found = machines.get(name)
    if (found === undefined) {
      const figures = Object.fromEntries(names.map((figure) => [figure, onGrid({ metric: {} }, grid)]))
      found = {
        sources: new Map(), present: false, system: '', cores: undefined, uptimeSeconds: undefined,
        figures: figures as Record<Figure, (number | null)[]>,
      }
      machines.set(name, found)
    }
    const { job = '', instance = '' } = labels
    found.sources.set(`${job} ${instance}`, { job, instance })
    return found
  }
  const system = (labels: Labels) => [labels['sysname'], labels['release'], labels['machine']].filter(Boolean).join(' ')
  for (const { metric } of known) machine(metric).system = system(metric)
  for (const { metric } of present) {
    const found = machine(metric)
    found.system = system(metric)
    found.present = true
  }
  for (const { metric, value } of cores) machine(metric).cores = number(value?.[1] ?? '')
  for (const { metric, value } of uptimes) machine(metric).uptimeSeconds = number(value?.[1] ?? '')
  names.forEach((name, index) => {
    for (const series of (answers[index] ?? []) as readonly RangeSeries[]) {
      merge(machine(series.metric).figures[name], onGrid(series, grid))
    }
  })
  return {
    grid,
    namer: nameOf,
    machines: [...machines]
      .map(([name, found]) => ({
        name,
        ...found,
        sources: [...found.sources.values()],
        present: found.present || last(found.figures.cpu, 2) !== undefined,
      }))
      .sort((a, b) => Number(b.present) - Number(a.present) || a.name.localeCompare(b.name, undefined, { numeric: true })),
  }
}

/** Series of one question, put together by the line that `name` makes of their labels. */
export function lines(
  answer: readonly RangeSeries[],
  grid: Grid,
  name: (labels: Labels) => string,
): { readonly name: string; readonly values: readonly (number | null)[] }[] {
  const byName = new Map<string, (number | null)[]>()
  for (const series of answer) {
    const key = name(series.metric)
    const values = byName.get(key)
    if (values === undefined) byName.set(key, onGrid(series, grid))
    else merge(values, onGrid(series, grid))
  }
  return [...byName].map(([key, values]) => ({ name: key, values }))
    .sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }))
}
