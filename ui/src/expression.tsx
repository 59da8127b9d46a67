// The input for an expression: it grows with its text, offers what may come next, and runs at Enter.
import { useEffect, useRef, useState } from 'preact/hooks'
import { labelNames, labelValues } from './api'
import { type Option, options, type Place, place } from './complete'

const OFFERED = 50

/** What the server was asked for already, by question; a wrong answer is asked for again. */
class Names {
  private readonly known = new Map<string, Promise<readonly string[]>>()

  at({ wants, metric, label }: Place, signal: AbortSignal): Promise<readonly string[]> {
    const key = `${wants} ${label} ${metric}`
    let names = this.known.get(key)
    if (names === undefined) {
      if (wants === 'expression') names = labelValues('__name__', '', signal)
      else if (wants === 'label') names = labelNames(metric, signal).then((all) => all.filter((name) => name !== '__name__'))
      else names = labelValues(label, metric, signal)
      names.catch(() => this.known.delete(key))
      this.known.set(key, names)
    }
    return names
  }
}

interface Offer {
  readonly at: Place
  readonly found: readonly Option[]
}

export function Expression({ value, invalid, onRun }: { value: string; invalid: boolean; onRun: (expr: string) => void }) {
  const [text, setText] = useState(value)
  const [offer, setOffer] = useState<Offer>()
  const [chosen, setChosen] = useState(-1)
  const [trouble, setTrouble] = useState('')
  const area = useRef<HTMLTextAreaElement>(null)
  const list = useRef<HTMLUListElement>(null)
  const names = useRef(new Names())
  const leaving = useRef(new AbortController())
  const asked = useRef(0)

  useEffect(() => setText(value), [value])
  useEffect(() => {
    const controller = new AbortController()
    leaving.current = controller
    return () => controller.abort()
  }, [])
  useEffect(() => {
    const element = area.current
    if (element === null) return
    element.style.height = 'auto'
    element.style.height = `${element.scrollHeight + 2}px`
  }, [text])
  useEffect(() => {
    list.current?.children[chosen]?.scrollIntoView({ block: 'nearest' })
  }, [chosen])

  const close = () => {
    asked.current += 1
    setOffer(undefined)
    setChosen(-1)
  }
  const look = async (element: HTMLTextAreaElement, { evenEmpty = false } = {}) => {
    asked.current += 1
    const turn = asked.current
    const at = place(element.value.slice(0, element.selectionStart))
    if (at === undefined || (at.word === '' && at.wants === 'expression' && !evenEmpty)) {
      close()
      return
    }
    try {
      const known = await names.current.at(at, leaving.current.signal)
      if (turn !== asked.current) return
      const found = options(at, known, OFFERED)
      setTrouble('')
      setOffer(found.length > 0 ? { at, found } : undefined)
      setChosen(-1)
    } catch (cause) {
      if (leaving.current.signal.aborted) return
      setTrouble(`No suggestions: ${cause instanceof Error ? cause.message : String(cause)}`)
    }
  }
  const take = (option: Option) => {
    const element = area.current
    if (offer === undefined || element === null) return
    const after = text.slice(element.selectionStart)
    const opens = option.kind === 'function' && !after.startsWith('(') ? '(' : ''
    const before = text.slice(0, offer.at.start) + option.text + opens
    setText(before + after)
    close()
    requestAnimationFrame(() => {
      element.focus()
      element.setSelectionRange(before.length, before.length)
    })
  }
  const run = () => {
    close()
    onRun(text.trim())
  }
  const keyed = (event: KeyboardEvent) => {
    const step = event.key === 'ArrowDown' ? 1 : event.key === 'ArrowUp' ? -1 : 0
    if (event.key === ' ' && event.ctrlKey && area.current !== null) {
      event.preventDefault()
      void look(area.current, { evenEmpty: true })
    } else if (offer !== undefined && step !== 0) {
      event.preventDefault()
      const count = offer.found.length
      setChosen(chosen < 0 ? (step > 0 ? 0 : count - 1) : (chosen + step + count) % count)
    } else if (offer !== undefined && event.key === 'Escape') {
      event.preventDefault()
      close()
    } else if ((event.key === 'Enter' && !event.shiftKey) || (event.key === 'Tab' && chosen >= 0)) {
      event.preventDefault()
      const option = offer?.found[chosen]
      if (option !== undefined) take(option)
      else run()
    }
  }

  return (
    <form
      class="expression"
      onSubmit={(event) => {
        event.preventDefault()
        run()
      }}
    >
      <div class="input">
        <textarea
          ref={area}
          rows={1}
          value={text}
          spellcheck={false}
          autocapitalize="off"
          autocomplete="off"
          aria-label="PromQL expression"
          aria-autocomplete="list"
          aria-haspopup="listbox"
          aria-controls="offers"
          aria-invalid={invalid}
          aria-describedby="expression-help"
          {...(chosen >= 0 ? { 'aria-activedescendant': `offer-${chosen}` } : {})}
          placeholder="An expression, such as up or rate(node_cpu_seconds_total[5m])"
          onInput={(event) => {
            setText(event.currentTarget.value)
            void look(event.currentTarget)
          }}
          onKeyDown={keyed}
          onBlur={close}
        />
        {offer !== undefined && (
          <ul class="offers" id="offers" role="listbox" aria-label="Suggestions" ref={list}>
            {offer.found.map((option, index) => (
              <li
                key={`${option.kind} ${option.text}`}
                id={`offer-${index}`}
                role="option"
                aria-selected={index === chosen}
                onMouseDown={(event) => {
                  event.preventDefault()
                  take(option)
                }}
              >
                <code>{option.text}</code>
                <span class="muted">{option.kind}</span>
              </li>
            ))}
          </ul>
        )}
      </div>
      <button type="submit" class="primary">Run</button>
      <p id="expression-help" class="help muted">
        {trouble || 'Enter runs, Shift+Enter starts a line, arrows and Tab take a suggestion, Ctrl+Space asks for one.'}
      </p>
    </form>
  )
}
