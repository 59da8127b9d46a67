// Graphs over time: a large one drawn by uPlot, with a legend that follows the cursor, and a small one in plain SVG.
//
// Both take a column of times and for each series as many values; null is a gap.
import { useEffect, useMemo, useRef, useState } from 'preact/hooks'
import uPlot from 'uplot'
import 'uplot/dist/uPlot.min.css'
import type { Grid, RangeSeries } from './api'
import { bytes, bytesPerSecond, type Format, localTime, number } from './format'

export type Values = readonly (number | null)[]
export interface Line {
  readonly name: string
  readonly values: Values
}

const COLOURS = 10
// Bytes have round numbers of their own.
const binary: ReadonlySet<Format> = new Set([bytes, bytesPerSecond])
const POWERS_OF_TWO = Array.from({ length: 60 }, (_, power) => 2 ** power)

export function gridTimes({ start, end, step }: Grid): readonly number[] {
  return Array.from({ length: Math.floor((end - start) / step + 1e-6) + 1 }, (_, index) => start + index * step)
}

/** The values of a series on its query's grid; what is not finite is a gap. */
export function onGrid(series: RangeSeries, { start, end, step }: Grid): (number | null)[] {
  const values = new Array<number | null>(Math.floor((end - start) / step + 1e-6) + 1).fill(null)
  for (const [time, text] of series.values ?? []) {
    const value = number(text)
    if (Number.isFinite(value)) values[Math.round((time - start) / step)] = value
  }
  return values
}

export function last(values: Values, reach = values.length): number | undefined {
  for (let index = values.length - 1; index >= Math.max(0, values.length - reach); index -= 1) {
    const value = values[index]
    if (value !== null && value !== undefined) return value
  }
  return undefined
}

function useDark(): boolean {
  const scheme = useMemo(() => window.matchMedia('(prefers-color-scheme: dark)'), [])
  const [dark, setDark] = useState(scheme.matches)
  useEffect(() => {
    const changed = () => setDark(scheme.matches)
    scheme.addEventListener('change', changed)
    return () => scheme.removeEventListener('change', changed)
  }, [scheme])
  return dark
}

interface GraphProps {
  readonly name: string
  readonly times: readonly number[]
  readonly lines: readonly Line[]
  readonly format: Format
  readonly height: number
  /** The value axis holds at least these. */
  readonly least?: number
  readonly most?: number
  /** A span of time that was drawn with the pointer. */
  readonly onSpan?: (start: number, end: number) => void
}

export function Graph({ name, times, lines, format, height, least, most, onSpan }: GraphProps) {
  const box = useRef<HTMLDivElement>(null)
  const plot = useRef<uPlot | undefined>(undefined)
  const spanned = useRef(onSpan)
  spanned.current = onSpan
  const dark = useDark()
  const [cursor, setCursor] = useState<number>()
  const [focus, setFocus] = useState<number>()
  const names = lines.map((line) => line.name).join('\n')
  const data = useMemo(() => [times, ...lines.map((line) => line.values)] as uPlot.AlignedData, [times, lines])

  useEffect(() => {
    const parent = box.current
    if (parent === null) return
    const css = getComputedStyle(document.documentElement)
    const colour = (variable: string) => css.getPropertyValue(variable).trim()
    const font = `12px ${css.getPropertyValue('--sans')}`
    const grid = { stroke: colour('--grid'), width: 1 }
    const axis: uPlot.Axis = { stroke: colour('--muted'), font, grid, ticks: { ...grid, size: 4 } }
    const made = new uPlot(
      {
        width: Math.max(parent.clientWidth, 100),
        height,
        padding: [8, 14, 0, 0],
        legend: { show: false },
        cursor: { drag: { x: spanned.current !== undefined, y: false, setScale: false }, points: { size: 6 } },
        focus: { alpha: 0.2 },
        scales: {
          y: {
            range: (_, low, high) => {
              const from = Math.min(low ?? 0, least ?? low ?? 0)
              const to = Math.max(high ?? 1, most ?? high ?? 1)
              if (from === to) return from === 0 ? [0, 1] : [Math.min(0, from), Math.max(0, to) * 1.1]
              if (from === least && to === most) return [from, to]
              return uPlot.rangeNum(from, to, { min: { pad: 0.05, soft: 0, mode: 1 }, max: { pad: 0.08 } })
            },
          },
        },
        axes: [
          { ...axis, size: 32, space: 70, values: timeTicks },
          { ...axis, size: 72, ...(binary.has(format) ? { incrs: POWERS_OF_TWO } : {}), values: (_, ticks) => ticks.map((tick) => (tick === null ? '' : format(tick))) },
        ],
        series: [
          {},
          ...lines.map((line, index) => ({
            label: line.name,
            stroke: colour(`--series-${index % COLOURS}`),
            width: 1.5,
            points: { show: (u: uPlot, at: number) => lonely(u.data[at] ?? []), size: 4 },
          })),
        ],
        hooks: {
          setCursor: [(u) => setCursor(u.cursor.idx ?? undefined)],
          setSelect: [
            (u) => {
              const { left, width } = u.select
              if (width < 4) return
              spanned.current?.(u.posToVal(left, 'x'), u.posToVal(left + width, 'x'))
              u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false)
            },
          ],
        },
      },
      data,
      parent,
    )
    plot.current = made
    const observer = new ResizeObserver(() => made.setSize({ width: Math.max(parent.clientWidth, 100), height }))
    observer.observe(parent)
    return () => {
      observer.disconnect()
      made.destroy()
      plot.current = undefined
    }
    // New values alone go to the plot that is there, below.
  }, [dark, height, names, format, least, most])

  useEffect(() => {
    plot.current?.setData(data)
  }, [data])
  useEffect(() => {
    plot.current?.setSeries(focus === undefined ? null : focus + 1, { focus: true })
  }, [focus])

  const at = cursor === undefined ? undefined : times[cursor]
  return (
    <figure class="graph">
      <div ref={box} class="plot" role="img" aria-label={`${name}: ${lines.length} series over time`} />
      <figcaption>
        <span class="at">{at === undefined ? 'latest' : localTime(at)}</span>
        <ul class="legend">
          {lines.map((line, index) => {
            const value = cursor === undefined ? last(line.values) : line.values[cursor]
            return (
              <li key={line.name} onMouseEnter={() => setFocus(index)} onMouseLeave={() => setFocus(undefined)}>
                <span class={`swatch s${index % COLOURS}`} aria-hidden="true" />
                <span class="series">{line.name}</span>
                <span class="value">{value === undefined || value === null ? '–' : format(value)}</span>
              </li>
            )
          })}
        </ul>
      </figcaption>
    </figure>
  )
}

/** A series of single samples between gaps would be invisible as a line. */
function lonely(values: ArrayLike<number | null | undefined>): boolean {
  for (let index = 0; index < values.length; index += 1) {
    const missing = (at: number) => values[at] === null || values[at] === undefined
    if (!missing(index) && missing(index - 1) && missing(index + 1)) return true
  }
  return false
}

/** Hours and minutes; the date where a day begins or when ticks are a day apart; seconds when they are close. */
function timeTicks(_: uPlot, ticks: number[], __: number, ___: number, apart: number): string[] {
  return ticks.map((tick) => {
    const date = new Date(tick * 1000)
    const two = (value: number) => String(value).padStart(2, '0')
    const midnight = date.getHours() === 0 && date.getMinutes() === 0 && date.getSeconds() === 0
    if (apart >= 86400 || midnight) return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`
    const minutes = `${two(date.getHours())}:${two(date.getMinutes())}`
    return apart < 60 ? `${minutes}:${two(date.getSeconds())}` : minutes
  })
}

const WIDTH = 120
const HEIGHT = 32

/** A graph as small as a word, its lowest edge `least` and its highest at least `most`. */
export function Spark({ values, name, least = 0, most, colour = 0 }: { values: Values; name: string; least?: number; most?: number; colour?: number }) {
  let high = most ?? 0
  for (const value of values) if (value !== null && value > high) high = value
  const scale = high > least ? (HEIGHT - 2) / (high - least) : 0
  const x = (index: number) => ((index / Math.max(values.length - 1, 1)) * WIDTH).toFixed(1)
  const y = (value: number) => (HEIGHT - 1 - (value - least) * scale).toFixed(1)
  let line = ''
  let area = ''
  let from = -1
  values.forEach((value, index) => {
    if (value === null) return
    if (from < 0) from = index
    line += `${from === index ? 'M' : 'L'}${x(index)} ${y(value)}`
    const next = values[index + 1]
    if (next === null || next === undefined) {
      if (from === index) line += 'h0.1'
      area += `${line.slice(line.lastIndexOf('M'))}L${x(index)} ${HEIGHT}L${x(from)} ${HEIGHT}Z`
      from = -1
    }
  })
  return (
    <svg class={`spark s${colour}`} viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label={name}>
      <path class="area" d={area} />
      <path class="line" d={line} vector-effect="non-scaling-stroke" />
    </svg>
  )
}
