// Prometheus's HTTP API v1 on the page's own origin, typed. It knows no page, and keeps nothing.

export type Labels = Readonly<Record<string, string>>
export type Sample = readonly [time: number, value: string]

export interface Target {
  readonly labels: Labels
  readonly discoveredLabels: Labels
  readonly scrapePool: string
  readonly scrapeUrl: string
  readonly lastError: string
  readonly lastScrape: string
  readonly lastScrapeDuration: number
  readonly health: 'up' | 'down' | 'unknown'
  readonly scrapeInterval?: string
}
export interface Targets {
  readonly active: readonly Target[]
  /** Every pool's name, those without a target too; empty where the server does not say. */
  readonly pools: readonly string[]
}

export interface ActiveAlert {
  readonly labels: Labels
  readonly annotations: Labels
  readonly state: 'pending' | 'firing'
  readonly activeAt: string
  readonly value: string
}
interface RuleBase {
  readonly name: string
  readonly query: string
  readonly labels?: Labels
  readonly health: string
  readonly lastError?: string
  readonly evaluationTime: number
  readonly lastEvaluation: string
}
export interface AlertingRule extends RuleBase {
  readonly type: 'alerting'
  readonly state: 'inactive' | 'pending' | 'firing' | 'unknown'
  readonly duration: number
  readonly keepFiringFor?: number
  readonly annotations?: Labels
  readonly alerts?: readonly ActiveAlert[]
}
export interface RecordingRule extends RuleBase {
  readonly type: 'recording'
}
export type Rule = AlertingRule | RecordingRule
export interface RuleGroup {
  readonly name: string
  readonly file: string
  readonly interval: number
  readonly rules: readonly Rule[]
}

export interface InstantSeries {
  readonly metric: Labels
  readonly value?: Sample
  readonly histogram?: readonly [time: number, histogram: { readonly count: string; readonly sum: string }]
}
export interface RangeSeries {
  readonly metric: Labels
  readonly values?: readonly Sample[]
}
export type InstantResult =
  | { readonly resultType: 'vector'; readonly result: readonly InstantSeries[] }
  | { readonly resultType: 'matrix'; readonly result: readonly RangeSeries[] }
  | { readonly resultType: 'scalar' | 'string'; readonly result: Sample }
/** An answer with what the server remarks about it. */
export interface Remarked<T> {
  readonly data: T
  readonly remarks: readonly string[]
}
export interface Grid {
  readonly start: number
  readonly end: number
  readonly step: number
}

/** The server said no, or nothing: `message` is what to show. */
export class ApiError extends Error {
  constructor(
    message: string,
    readonly kind: string,
  ) {
    super(message)
    this.name = 'ApiError'
  }
}

// Longer questions go as a form in the body: proxies cut URLs.
const URL_LIMIT = 2000

interface Envelope {
  readonly status: string
  readonly data?: unknown
  readonly error?: string
  readonly errorType?: string
  readonly warnings?: readonly string[]
  readonly infos?: readonly string[]
}

async function ask<T>(path: string, params: readonly (readonly [string, string])[], signal: AbortSignal): Promise<Remarked<T>> {
  const query = new URLSearchParams(params.map(([name, value]) => [name, value])).toString()
  let response: Response
  try {
    response =
      query.length > URL_LIMIT
        ? await fetch(`api/v1/${path}`, { method: 'POST', body: new URLSearchParams(query), signal })
        : await fetch(query === '' ? `api/v1/${path}` : `api/v1/${path}?${query}`, { signal })
  } catch (cause) {
    if (signal.aborted) throw cause
    throw new ApiError('The server does not answer. Is it running, and is the network there?', 'network')
  }
  const text = await response.text()
  let envelope: Envelope
  try {
    envelope = JSON.parse(text) as Envelope
  } catch {
    throw new ApiError(`The server answered ${response.status} without JSON: ${text.slice(0, 200)}`, 'answer')
  }
  if (envelope.status !== 'success') {
    throw new ApiError(envelope.error ?? `The server answered ${response.status}.`, envelope.errorType ?? 'answer')
  }
  return { data: envelope.data as T, remarks: [...(envelope.warnings ?? []), ...(envelope.infos ?? [])] }
}

export async function targets(signal: AbortSignal): Promise<Targets> {
  const [{ data }, pools] = await Promise.all([
    ask<{ activeTargets: readonly Target[] }>('targets', [['state', 'active']], signal),
    poolNames(signal),
  ])
  return { active: data.activeTargets, pools }
}

async function poolNames(signal: AbortSignal): Promise<readonly string[]> {
  try {
    return (await ask<{ scrapePools: readonly string[] }>('scrape_pools', [], signal)).data.scrapePools
  } catch (cause) {
    // Servers before Prometheus 2.42 have no such address and answer in plain text; what has targets is listed then.
    if (cause instanceof ApiError && cause.kind === 'answer') return []
    throw cause
  }
}

export async function ruleGroups(signal: AbortSignal): Promise<readonly RuleGroup[]> {
  return (await ask<{ groups: readonly RuleGroup[] }>('rules', [], signal)).data.groups
}

/** Which server answers. `version` is that of the Prometheus whose API it is; only Bellbuoy has one of its own beside it. */
export interface Build {
  readonly version: string
  readonly bellbuoyVersion?: string
}

export async function build(signal: AbortSignal): Promise<Build> {
  return (await ask<Build>('status/buildinfo', [], signal)).data
}

export function query(expr: string, time: number | undefined, signal: AbortSignal): Promise<Remarked<InstantResult>> {
  const at: [string, string][] = time === undefined ? [] : [['time', String(time)]]
  return ask<InstantResult>('query', [['query', expr], ...at], signal)
}

export async function vector(expr: string, signal: AbortSignal): Promise<readonly InstantSeries[]> {
  const { data } = await query(expr, undefined, signal)
  if (data.resultType !== 'vector') throw new ApiError(`BUG: ${expr} is a ${data.resultType}, not a vector`, 'answer')
  return data.result
}

export async function queryRange(expr: string, grid: Grid, signal: AbortSignal): Promise<Remarked<readonly RangeSeries[]>> {
  const { start, end, step } = grid
  const { data, remarks } = await ask<{ result: readonly RangeSeries[] }>(
    'query_range',
    [['query', expr], ['start', String(start)], ['end', String(end)], ['step', String(step)]],
    signal,
  )
  return { data: data.result, remarks }
}

/** Metric names, or the values of another label, of the series that `match` selects. */
export async function labelValues(label: string, match: string, signal: AbortSignal): Promise<readonly string[]> {
  const params: [string, string][] = match === '' ? [] : [['match[]', match]]
  return (await ask<readonly string[]>(`label/${encodeURIComponent(label)}/values`, params, signal)).data
}

export async function labelNames(match: string, signal: AbortSignal): Promise<readonly string[]> {
  const params: [string, string][] = match === '' ? [] : [['match[]', match]]
  return (await ask<readonly string[]>('labels', params, signal)).data
}
