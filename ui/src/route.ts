// Where the user is: all of the page's state, kept in the URL's hash, as `#/query?expr=up&range=1h`.
//
// A hash and not a path, so that the same files work below any prefix of a reverse proxy and need nothing from the server.
import { useEffect, useState } from 'preact/hooks'

export const PAGES = ['targets', 'alerts', 'nodes', 'query'] as const
export type Page = (typeof PAGES)[number]

export interface Route {
  readonly page: Page
  readonly params: URLSearchParams
}

/** An empty value leaves its parameter out. */
export type Params = Readonly<Record<string, string | undefined>>

export function parse(hash: string): Route {
  const [path = '', query = ''] = hash.replace(/^#\/?/, '').split(/\?(.*)/s)
  const page = PAGES.find((name) => name === path) ?? 'targets'
  return { page, params: new URLSearchParams(query) }
}

export function href(page: Page, params: Params | URLSearchParams = {}): string {
  const entries = params instanceof URLSearchParams ? [...params] : Object.entries(params)
  const query = new URLSearchParams(entries.filter((entry): entry is [string, string] => Boolean(entry[1]))).toString()
  return query === '' ? `#/${page}` : `#/${page}?${query}`
}

/** Change some parameters of this page: a step in the history, unless `replace` (typing in a filter is no step). */
export function change(params: Params, { replace = false }: { replace?: boolean } = {}): void {
  const here = parse(location.hash)
  const next = new URLSearchParams(here.params)
  for (const [name, value] of Object.entries(params)) {
    if (value) next.set(name, value)
    else next.delete(name)
  }
  const target = href(here.page, next)
  if (target === location.hash) return
  if (replace) {
    history.replaceState(null, '', target)
    window.dispatchEvent(new HashChangeEvent('hashchange'))
  } else {
    location.hash = target
  }
}

export function useRoute(): Route {
  const [route, setRoute] = useState(() => parse(location.hash))
  useEffect(() => {
    const changed = () => setRoute(parse(location.hash))
    window.addEventListener('hashchange', changed)
    return () => window.removeEventListener('hashchange', changed)
  }, [])
  return route
}

/** Links are made to Prometheus's own addresses, as `/alerts` or an alert's `/graph?g0.expr=…`: they open our pages. */
export function adoptPrometheusLink(): void {
  if (location.hash !== '') return
  const search = new URLSearchParams(location.search)
  const expr = search.get('g0.expr')
  if (expr === null) {
    const name = location.pathname.split('/').at(-1)
    const page = name === 'rules' ? 'alerts' : PAGES.find((known) => known === name)
    if (page !== undefined) history.replaceState(null, '', location.pathname + href(page))
    return
  }
  const table = ['1', 'table'].includes(search.get('g0.tab') ?? '')
  const target = href('query', {
    expr,
    tab: table ? 'table' : undefined,
    range: search.get('g0.range_input') ?? undefined,
  })
  history.replaceState(null, '', location.pathname + target)
}
