// Spans of time to look at, and the grids on which they are asked for.
import type { Grid } from './api'
import { parseDuration } from './format'
import { Choices } from './parts'

const RANGES: readonly string[] = ['15m', '1h', '6h', '24h', '7d']
export const DEFAULT_RANGE = '1h'

export function rangeSeconds(params: URLSearchParams): number {
  return parseDuration(params.get('range') ?? '') ?? parseDuration(DEFAULT_RANGE) ?? 3600
}

/** About `points` steps that end at `end`, on multiples of the step: the same moments are asked for again and again. */
export function gridOf({ seconds, points, end }: { seconds: number; points: number; end: number }): Grid {
  const step = Math.max(1, Math.ceil(seconds / points))
  const to = Math.floor(end / step) * step
  return { start: to - Math.floor(seconds / step) * step, end: to, step }
}

/** The window of a rate on this grid: no sample between two steps is lost, and slow scrapes still give two samples. */
export function rateWindow({ step }: Grid): string {
  return `${Math.max(120, 2 * step)}s`
}

/** The usual spans, and the one that is looked at if it is none of them. */
export function RangeChoices({ given }: { given: string }) {
  const choices = [...(RANGES.includes(given) ? [] : [given]), ...RANGES].map((range) => ({ value: range, text: range }))
  return <Choices param="range" label="Time range" value={given} usual={DEFAULT_RANGE} choices={choices} />
}
