// What may come next in a PromQL expression: metric names, functions, label names and values.
//
// It looks at the words before the cursor only; whether the whole is right, the server says.

export type Kind = 'metric' | 'function' | 'keyword' | 'label' | 'value'
export interface Option {
  readonly text: string
  readonly kind: Kind
}

/** What is being typed: from `start` to the cursor, and which things could stand there. */
export interface Place {
  readonly start: number
  readonly word: string
  readonly wants: 'expression' | 'label' | 'value'
  /** The metric whose labels are meant, if it is plain. */
  readonly metric: string
  readonly label: string
}

const FUNCTIONS = `abs absent absent_over_time avg_over_time ceil changes clamp clamp_max clamp_min count_over_time
day_of_month day_of_week day_of_year days_in_month delta deriv exp floor histogram_quantile hour idelta increase irate
label_join label_replace last_over_time ln log10 log2 max_over_time min_over_time minute month predict_linear present_over_time
quantile_over_time rate resets round scalar sgn sort sort_desc sqrt stddev_over_time stdvar_over_time sum_over_time time
timestamp vector year`.split(/\s+/)
const AGGREGATIONS = 'avg bottomk count count_values group max min quantile stddev stdvar sum topk'.split(' ')
const KEYWORDS = 'and bool by group_left group_right ignoring offset on or unless without'.split(' ')

const WORDS: readonly Option[] = [
  ...[...AGGREGATIONS, ...FUNCTIONS].map((text): Option => ({ text, kind: 'function' })),
  ...KEYWORDS.map((text): Option => ({ text, kind: 'keyword' })),
]

export function place(before: string): Place | undefined {
  const value = /([a-zA-Z_]\w*)\s*(?:=~|!~|!=|=)\s*"([^"\\]*)$/.exec(before)
  const brace = before.lastIndexOf('{')
  const braces = brace > before.lastIndexOf('}')
  const metric = (braces && /([a-zA-Z_:][\w:]*)\s*$/.exec(before.slice(0, brace))?.[1]) || ''
  if (value !== null && braces) {
    const word = value[2] ?? ''
    return { start: before.length - word.length, word, wants: 'value', metric, label: value[1] ?? '' }
  }
  if ((before.match(/"/g)?.length ?? 0) % 2 === 1) return undefined
  const word = /[a-zA-Z_:][\w:]*$/.exec(before)?.[0] ?? ''
  const start = before.length - word.length
  if (/[\d.]$/.test(before.slice(0, start)) || (/\[[^\]]*$/.test(before) && !braces)) return undefined
  if (braces) return { start, word, wants: 'label', metric, label: '' }
  if (/\b(by|without|on|ignoring|group_left|group_right)\s*\([^()]*$/.test(before)) {
    return { start, word, wants: 'label', metric: '', label: '' }
  }
  return { start, word, wants: 'expression', metric: '', label: '' }
}

/** Those that begin with the word, then those that hold it; `names` are what the server knows for this place. */
export function options({ wants, word }: Place, names: readonly string[], limit: number): readonly Option[] {
  const kind: Kind = wants === 'expression' ? 'metric' : wants
  const all = [...names.map((text): Option => ({ text, kind })), ...(wants === 'expression' ? WORDS : [])]
  const low = word.toLowerCase()
  const rank = ({ text }: Option) => {
    const at = text.toLowerCase().indexOf(low)
    return at <= 0 ? at : 1
  }
  const found = all.map((option) => ({ option, rank: rank(option) })).filter((one) => one.rank >= 0 && one.option.text !== word)
  return found.sort((a, b) => a.rank - b.rank).slice(0, limit).map((one) => one.option)
}
