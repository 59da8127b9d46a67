// Asks the server again and again while someone looks: the one way in which pages get their data.
import { useEffect, useRef, useState } from 'preact/hooks'

export interface Polled<T> {
  /** The last good answer to the present question; an error since then leaves it standing. */
  readonly data: T | undefined
  readonly error: Error | undefined
  /** True until the present question has its first answer or error. */
  readonly loading: boolean
  /** What answered the question before, until this one has its answer. */
  readonly before: T | undefined
}

interface State<T> {
  readonly key: string
  readonly data: T | undefined
  readonly error: Error | undefined
}

/**
 * `key` names the question: when it changes, the old answer is what was `before`, and the new one is asked for.
 * Asks once if `everySeconds` is 0; never while the tab is hidden, and at once when it is seen again.
 */
export function usePolled<T>(key: string, load: (signal: AbortSignal) => Promise<T>, everySeconds: number): Polled<T> {
  const [state, setState] = useState<State<T>>({ key, data: undefined, error: undefined })
  const newest = useRef(load)
  newest.current = load
  useEffect(() => {
    const abort = new AbortController()
    let timer: number | undefined
    let running = false
    let asked = false
    const turn = async () => {
      if (running || document.hidden) return
      running = true
      asked = true
      window.clearTimeout(timer)
      try {
        const data = await newest.current(abort.signal)
        if (!abort.signal.aborted) setState({ key, data, error: undefined })
      } catch (cause) {
        if (abort.signal.aborted) return
        const error = cause instanceof Error ? cause : new Error(String(cause))
        setState((old) => ({ key, data: old.key === key ? old.data : undefined, error }))
      } finally {
        running = false
      }
      if (everySeconds > 0 && !abort.signal.aborted) timer = window.setTimeout(turn, everySeconds * 1000)
    }
    const seen = () => {
      if (everySeconds > 0 || !asked) void turn()
    }
    document.addEventListener('visibilitychange', seen)
    void turn()
    return () => {
      abort.abort()
      window.clearTimeout(timer)
      document.removeEventListener('visibilitychange', seen)
    }
  }, [key, everySeconds])
  const current = state.key === key
  return {
    data: current ? state.data : undefined,
    error: current ? state.error : undefined,
    before: current ? undefined : state.data,
    loading: !current || (state.data === undefined && state.error === undefined),
  }
}
