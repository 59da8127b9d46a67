// The small parts that several pages show: labels, badges, notices, filters, times.
import type { ComponentChildren, JSX } from 'preact'
import { useEffect, useState } from 'preact/hooks'
import type { Labels } from './api'
import { age, since } from './format'
import { change } from './route'

const ticking = new Set<() => void>()
window.setInterval(() => {
  if (!document.hidden) for (const tick of ticking) tick()
}, 1000)

/** How long ago it was. It ticks by itself, so that no page is drawn anew each second. */
export function Ago({ time }: { time: string }) {
  const [, setTicks] = useState(0)
  useEffect(() => {
    const tick = () => setTicks((ticks) => ticks + 1)
    ticking.add(tick)
    return () => {
      ticking.delete(tick)
    }
  }, [])
  const seconds = since(time, Date.now() / 1000)
  if (seconds === undefined) return <span class="muted">not yet</span>
  return (
    <time dateTime={time} title={new Date(time).toLocaleString()}>
      {seconds < 1 ? 'now' : `${age(seconds)} ago`}
    </time>
  )
}

export function LabelSet({ labels, omit = [] }: { labels: Labels; omit?: readonly string[] }) {
  const pairs = Object.entries(labels).filter(([name]) => !omit.includes(name))
  if (pairs.length === 0) return <span class="muted">no labels</span>
  return (
    <span class="labels">
      {pairs.map(([name, value]) => (
        <span class="label" key={name}>
          {name}=<b>{value === '' ? '""' : value}</b>
        </span>
      ))}
    </span>
  )
}

/** A series as PromQL writes it. */
export function seriesName(labels: Labels): string {
  const { __name__: name = '', ...rest } = labels
  const pairs = Object.entries(rest).map(([label, value]) => `${label}=${JSON.stringify(value)}`)
  return pairs.length === 0 ? name || '{}' : `${name}{${pairs.join(', ')}}`
}

export type Tone = 'good' | 'bad' | 'warn' | 'calm'

export function Badge({ tone, children }: { tone: Tone; children: ComponentChildren }) {
  return <span class={`badge ${tone}`}>{children}</span>
}

/** Something is not as it should be, and what to do. Data on the page is the last that was had. */
export function Failure({ error, doing }: { error: Error | undefined; doing: string }) {
  if (error === undefined) return null
  return (
    <div class="notice bad" role="alert">
      <strong>Cannot {doing}.</strong> {error.message}
    </div>
  )
}

export function Loading({ what }: { what: string }) {
  return (
    <p class="loading" role="status">
      Loading {what}…
    </p>
  )
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <h2>{title}</h2>
      {children}
    </div>
  )
}

/** A text filter that lives in the URL's parameter `q`. */
export function Filter({ value, label, hint }: { value: string; label: string; hint: string }) {
  return (
    <input
      class="filter"
      type="search"
      aria-label={label}
      placeholder={hint}
      value={value}
      onInput={(event) => change({ q: event.currentTarget.value }, { replace: true })}
    />
  )
}

/** All words of the filter occur somewhere in the texts. */
export function matches(filter: string, texts: readonly string[]): boolean {
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean)
  if (words.length === 0) return true
  const all = texts.join('\n').toLowerCase()
  return words.every((word) => all.includes(word))
}

export function labelTexts(labels: Labels): readonly string[] {
  return Object.entries(labels).map(([name, value]) => `${name}=${value}`)
}

export interface Choice {
  readonly value: string
  readonly text: string
  readonly count?: number | undefined
}

/** One of a few, in the URL; `usual` is what an absent parameter means. */
export function Choices(props: { param: string; label: string; value: string; usual: string; choices: readonly Choice[] }) {
  const { param, label, value, usual, choices } = props
  return (
    <div class="choices" role="group" aria-label={label}>
      {choices.map((choice) => (
        <button key={choice.value} type="button" aria-pressed={choice.value === value} onClick={() => change({ [param]: choice.value === usual ? undefined : choice.value })}>
          {choice.text}
          {choice.count !== undefined && <span class="count">{choice.count}</span>}
        </button>
      ))}
    </div>
  )
}

export function Code({ children }: { children: string }): JSX.Element {
  return (
    <pre class="code" tabIndex={0}>
      <code>{children}</code>
    </pre>
  )
}
