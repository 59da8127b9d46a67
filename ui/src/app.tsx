// The frame around the pages: where one is, what is wrong at a glance, and which server answers.
import { useEffect } from 'preact/hooks'
import { type Build, build, vector } from './api'
import { number } from './format'
import { AlertsPage } from './pages/alerts'
import { NodesPage } from './pages/nodes'
import { QueryPage } from './pages/query'
import { TargetsPage } from './pages/targets'
import { usePolled } from './poll'
import { href, type Page, PAGES, useRoute } from './route'

const REFRESH_SECONDS = 15
const TITLES: Readonly<Record<Page, string>> = { targets: 'Targets', alerts: 'Alerts', nodes: 'Nodes', query: 'Query' }

interface Counts {
  readonly down: number
  readonly firing: number
}

async function counts(signal: AbortSignal): Promise<Counts> {
  const count = async (expr: string) => number((await vector(expr, signal))[0]?.value?.[1] ?? '0')
  const [down, firing] = await Promise.all([count('count(up == 0)'), count('count(ALERTS{alertstate="firing"})')])
  return { down, firing }
}

function made({ version, bellbuoyVersion }: Build): string {
  if (bellbuoyVersion === undefined) return `Server ${version}`
  return `Bellbuoy ${bellbuoyVersion} · PromQL as in Prometheus ${version.replace(/\.\d+$/, '')}`
}

export function App() {
  const { page, params } = useRoute()
  const one = page === 'nodes' ? params.get('node') : page === 'query' ? params.get('expr') : null
  const { data } = usePolled('counts', counts, REFRESH_SECONDS)
  const server = usePolled('build', build, 60)
  const wrong: Readonly<Partial<Record<Page, number>>> = { targets: data?.down ?? 0, alerts: data?.firing ?? 0 }
  const says: Readonly<Partial<Record<Page, string>>> = { targets: 'down', alerts: 'firing' }
  useEffect(() => {
    document.title = `${one ?? TITLES[page]} · Bellbuoy`
  }, [page, one])
  useEffect(() => {
    if (location.hash !== '') window.scrollTo(0, 0)
  }, [page, page === 'nodes' && one])
  return (
    <>
      <a
        class="skip"
        href="#content"
        onClick={(event) => {
          event.preventDefault()
          document.getElementById('content')?.focus()
        }}
      >
        Skip to the content
      </a>
      <header class="top">
        <a class="brand" href={href('targets')}>
          <img src="./buoy.svg" alt="" width="28" height="28" />
          Bellbuoy
        </a>
        <nav aria-label="Pages">
          {PAGES.map((name) => {
            const count = wrong[name] ?? 0
            return (
              <a key={name} href={href(name)} {...(name === page ? { 'aria-current': 'page' as const } : {})}>
                {TITLES[name]}
                {count > 0 && <span class="alarm"><b>{count}</b><span class="word"> {says[name]}</span></span>}
              </a>
            )
          })}
        </nav>
      </header>
      <main id="content" tabIndex={-1}>
        {page === 'targets' && <TargetsPage params={params} />}
        {page === 'alerts' && <AlertsPage params={params} />}
        {page === 'nodes' && <NodesPage params={params} />}
        {page === 'query' && <QueryPage params={params} />}
      </main>
      <footer>
        <span>{server.data !== undefined ? made(server.data) : server.error !== undefined ? 'The server does not tell its version' : ''}</span>
        <span>Times are of this browser: {Intl.DateTimeFormat().resolvedOptions().timeZone}</span>
      </footer>
    </>
  )
}
