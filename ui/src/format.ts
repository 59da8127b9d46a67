// Numbers and times as people read them.

const UNITS: readonly (readonly [string, number])[] = [
  ['y', 31536000], ['w', 604800], ['d', 86400], ['h', 3600], ['m', 60], ['s', 1],
]

/** The seconds of a Prometheus duration such as `1h30m`; undefined if it is none. */
export function parseDuration(text: string): number | undefined {
  if (!/^(\d+[ywdhms])+$/.test(text)) return undefined
  let seconds = 0
  for (const [, count = '', unit = ''] of text.matchAll(/(\d+)([ywdhms])/g)) {
    seconds += Number(count) * (UNITS.find(([name]) => name === unit)?.[1] ?? 0)
  }
  return seconds > 0 ? seconds : undefined
}

/** `5400` is `1h30m`, exactly; below a second in milliseconds. */
export function duration(seconds: number): string {
  if (seconds < 1) return `${Math.round(seconds * 1000)}ms`
  let rest = Math.round(seconds)
  let text = ''
  for (const [name, size] of UNITS.slice(1)) {
    const count = Math.floor(rest / size)
    if (count > 0) text += `${count}${name}`
    rest -= count * size
  }
  return text
}

/** Two units are enough for an age: `3 d 4 h`, `12 s`. */
export function age(seconds: number): string {
  if (seconds < 1) return '0 s'
  const parts: string[] = []
  let rest = Math.floor(seconds)
  for (const [name, size] of [['d', 86400], ['h', 3600], ['min', 60], ['s', 1]] as const) {
    const count = Math.floor(rest / size)
    rest -= count * size
    if (count > 0) parts.push(`${count} ${name}`)
    else if (parts.length > 0) break
    if (parts.length === 2) break
  }
  return parts.join(' ')
}

/** A took-time in seconds: `4.2 ms`, `1.31 s`. */
export function took(seconds: number): string {
  return seconds < 1 ? `${(seconds * 1000).toPrecision(3)} ms` : `${seconds.toFixed(2)} s`
}

/** Seconds since an RFC 3339 time; undefined for Go's zero time and for Unix's, which mean never. */
export function since(time: string, now: number): number | undefined {
  const at = Date.parse(time) / 1000
  return Number.isNaN(at) || at <= 0 ? undefined : Math.max(0, now - at)
}

export function localTime(seconds: number): string {
  return new Date(seconds * 1000).toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'medium' })
}

function scaled(value: number, base: number, units: readonly string[]): string {
  if (!Number.isFinite(value)) return String(value)
  let index = 0
  let size = value
  while (Math.abs(size) >= base * 0.9995 && index < units.length - 1) {
    size /= base
    index += 1
  }
  // Enough digits that the ticks of an axis differ.
  return `${Number(size.toPrecision(base === 1024 && Math.abs(size) < 1000 ? 3 : 4))}${units[index] ?? ''}`
}

export type Format = (value: number) => string
export const bytes: Format = (value) => scaled(value, 1024, [' B', ' KiB', ' MiB', ' GiB', ' TiB', ' PiB'])
export const bytesPerSecond: Format = (value) => `${bytes(value)}/s`
export const percent: Format = (value) => `${(value * 100).toFixed(value !== 0 && Math.abs(value) < 0.0995 ? 1 : 0)} %`
/** Any number, short: `1.5k`, `12M`, `0.00042`. */
export const short: Format = (value) => {
  if (value !== 0 && Math.abs(value) < 0.01) return String(Number(value.toPrecision(3)))
  return scaled(value, 1000, ['', 'k', 'M', 'G', 'T', 'P', 'E'])
}

/** A sample's value as a number; `+Inf` and `-Inf` too. */
export function number(text: string): number {
  if (text === '+Inf' || text === 'Inf') return Infinity
  return text === '-Inf' ? -Infinity : Number(text)
}
