// Any question in PromQL: as a graph over a time, or as a table at one moment. The URL holds all of it.
import { useMemo } from 'preact/hooks'
import { type ApiError, type Grid, type InstantResult, type InstantSeries, type Labels, query, queryRange, type RangeSeries, type Remarked } from '../api'
import { Expression } from '../expression'
import { age, duration, localTime, short, took } from '../format'
import { Graph, gridTimes, onGrid } from '../graph'
import { Badge, Choices, Empty, Failure, LabelSet, Loading, seriesName } from '../parts'
import { usePolled } from '../poll'
import { DEFAULT_RANGE, gridOf, RangeChoices, rangeSeconds } from '../ranges'
import { change, href } from '../route'

const POINTS = 250
// More lines than this no one can tell apart, and more rows no one reads.
const LINES = 40
const ROWS = 500

const EXAMPLES: readonly (readonly [expr: string, says: string])[] = [
  ['up', 'which targets answer'],
  ['count by (job) (up == 0)', 'how many of each job do not'],
  ['topk(10, count by (__name__) ({__name__!=""}))', 'the metrics with the most series'],
  ['avg by (instance) (rate(node_cpu_seconds_total{mode!="idle"}[5m]))', 'how busy the processors are'],
]

export function QueryPage({ params }: { params: URLSearchParams }) {
  const expr = params.get('expr') ?? ''
  const table = params.get('tab') === 'table'
  const seconds = rangeSeconds(params)
  const end = Number(params.get('end')) || undefined
  // `run` makes each Run a new question, the same expression too.
  const run = params.get('run') ?? ''
  const key = expr === '' ? '' : JSON.stringify([expr, table, table ? 0 : seconds, end, run])
  const { data, error, loading, before } = usePolled<Answer | undefined>(key, async (signal) => {
    if (expr === '') return undefined
    const asked = performance.now()
    const at = end ?? Date.now() / 1000
    const grid = gridOf({ seconds, points: POINTS, end: at })
    const answer: Answered = table
      ? { kind: 'table', ...(await query(expr, end, signal)) }
      : { kind: 'graph', grid, ...(await queryRange(expr, grid, signal)) }
    return { ...answer, tookSeconds: (performance.now() - asked) / 1000, expr }
  }, 0)
  // Another time of the same question: its graph stays, dimmed, until the new one is there.
  const old = before?.expr === expr && (before.kind === 'table') === table ? before : undefined
  const ask = (text: string) => change({ expr: text, run: text === expr ? String((Number(run) || 0) + 1) : undefined })
  return (
    <>
      <div class="bar"><h1>Query</h1></div>
      <Expression value={expr} invalid={error !== undefined} onRun={ask} />
      <div class="bar controls">
        <Choices param="tab" label="Show as" value={table ? 'table' : 'graph'} usual="graph" choices={[{ value: 'graph', text: 'Graph' }, { value: 'table', text: 'Table' }]} />
        {!table && <RangeChoices given={params.get('range') ?? DEFAULT_RANGE} />}
        <Moment end={end} seconds={seconds} />
      </div>
      {error !== undefined && <QueryError expr={expr} error={error} />}
      {expr === '' && <Examples />}
      {expr !== '' && loading && old === undefined && <Loading what="answer" />}
      {data !== undefined && <Shown answer={data} />}
      {data === undefined && old !== undefined && <div class="old" aria-busy="true"><Shown answer={old} /></div>}
    </>
  )
}

type Answered =
  | ({ readonly kind: 'table' } & Remarked<InstantResult>)
  | ({ readonly kind: 'graph'; readonly grid: Grid } & Remarked<readonly RangeSeries[]>)
type Answer = Answered & { readonly tookSeconds: number; readonly expr: string }

/** Which moment it ends at, and steps of half a range back and forth. */
function Moment({ end, seconds }: { end: number | undefined; seconds: number }) {
  const now = Date.now() / 1000
  const move = (by: number) => {
    const to = Math.round((end ?? now) + by)
    change({ end: to >= now ? undefined : String(to) })
  }
  const local = (at: number) => new Date((at - new Date(at * 1000).getTimezoneOffset() * 60) * 1000).toISOString().slice(0, 16)
  return (
    <div class="moment">
      <button type="button" aria-label={`Back by ${age(seconds / 2)}`} onClick={() => move(-seconds / 2)}>‹</button>
      <input
        type="datetime-local"
        aria-label="End of the time shown"
        value={local(end ?? now)}
        onChange={(event) => {
          const picked = Date.parse(event.currentTarget.value) / 1000
          change({ end: Number.isNaN(picked) || picked >= now ? undefined : String(picked) })
        }}
      />
      <button type="button" aria-label={`Forth by ${age(seconds / 2)}`} disabled={end === undefined} onClick={() => move(seconds / 2)}>›</button>
      <button type="button" aria-pressed={end === undefined} onClick={() => change({ end: undefined })}>Now</button>
    </div>
  )
}

/** A parse error names its place as `line:column`: show it there. */
function QueryError({ expr, error }: { expr: string; error: Error }) {
  const found = /(\d+):(\d+): parse error: ?(.*)$/s.exec(error.message)
  if (found === null) {
    const doing = (error as Partial<ApiError>).kind === 'network' ? 'ask the server' : 'answer this'
    return <Failure error={error} doing={doing} />
  }
  const [, line = '1', column = '1', message = ''] = found
  const lines = expr.split('\n')
  const index = Number(line) - 1
  const at = Math.min(Number(column) - 1, (lines[index] ?? '').length)
  const wrong = lines[index] ?? ''
  return (
    <div class="notice bad" role="alert">
      <p>
        <strong>Cannot read the expression</strong> at {lines.length > 1 ? `line ${line}, ` : ''}column {column}: {message}
      </p>
      <pre class="where" tabIndex={0} aria-label="The place of the error">
        {lines.slice(0, index).map((text) => `${text}\n`).join('')}
        {wrong.slice(0, at)}
        <mark>{wrong.slice(at, at + 1) || ' '}</mark>
        {wrong.slice(at + 1)}
        {`\n${' '.repeat(at)}^\n`}
        {lines.slice(index + 1).join('\n')}
      </pre>
    </div>
  )
}

function Shown({ answer }: { answer: Answer }) {
  const { expr } = answer
  const count = answer.kind === 'graph' ? answer.data.length : rowsOf(answer.data)?.length
  return (
    <>
      {answer.remarks.map((remark) => <p class="notice warn" key={remark}>{remark}</p>)}
      {count === 0 ? (
        <NoSeries expr={expr} />
      ) : (
        <section class="card" aria-label="Answer">
          <p class="facts muted inset">
            {count !== undefined && <span>{count} series</span>}
            {answer.kind === 'graph' && <span>one value each {duration(answer.grid.step)}</span>}
            <span>answered in {took(answer.tookSeconds)}</span>
            {answer.kind === 'graph' && <span>drag over the graph to look closer</span>}
          </p>
          {answer.kind === 'graph' ? <AnswerGraph series={answer.data} grid={answer.grid} expr={expr} /> : <AnswerTable answer={answer.data} />}
        </section>
      )}
    </>
  )
}

/** The labels that all of several series have alike: said once, they need no place in each line. */
function sharedLabels(all: readonly Labels[]): Labels {
  const [first, ...rest] = all
  if (first === undefined || rest.length === 0) return {}
  return Object.fromEntries(Object.entries(first).filter(([name, value]) => rest.every((labels) => labels[name] === value)))
}

function without(labels: Labels, shared: Labels): Labels {
  return Object.fromEntries(Object.entries(labels).filter(([name]) => shared[name] === undefined))
}

function AnswerGraph({ series, grid, expr }: { series: readonly RangeSeries[]; grid: Grid; expr: string }) {
  const times = useMemo(() => gridTimes(grid), [grid])
  const shared = useMemo(() => sharedLabels(series.map((one) => one.metric)), [series])
  const lines = useMemo(
    () => series.slice(0, LINES).map((one) => ({ name: seriesName(without(one.metric, shared)), values: onGrid(one, grid) })),
    [series, shared, grid],
  )
  const look = (start: number, end: number) => change({ range: duration(Math.max(10, Math.round(end - start))), end: String(Math.round(end)) })
  return (
    <>
      {series.length > LINES && (
        <p class="notice warn">
          Drawn are the first {LINES} of {series.length} series. Narrow it, sum it up, or take <code>topk({LINES}, …)</code>.
        </p>
      )}
      {Object.keys(shared).length > 0 && <p class="inset shared"><span class="muted">All have</span> <LabelSet labels={shared} /></p>}
      <Graph name={expr} times={times} lines={lines} format={short} height={340} onSpan={look} />
    </>
  )
}

/** A series of a vector has one value, one of a matrix many. */
type Row = Partial<InstantSeries> & RangeSeries

/** undefined if the answer is one value of no series. */
function rowsOf(answer: InstantResult): readonly Row[] | undefined {
  return answer.resultType === 'vector' || answer.resultType === 'matrix' ? answer.result : undefined
}

function AnswerTable({ answer }: { answer: InstantResult }) {
  const rows = rowsOf(answer)
  if (rows === undefined) {
    return <p class="scalar">{String(answer.result[1])} <Badge tone="calm">{answer.resultType}</Badge></p>
  }
  return (
    <>
      <table class="answer">
        <thead>
          <tr>
            <th scope="col">Series</th>
            <th scope="col" class="num">Value</th>
          </tr>
        </thead>
        <tbody>
          {rows.slice(0, ROWS).map((row) => (
            <tr key={seriesName(row.metric)}>
              <th scope="row"><code>{seriesName(row.metric)}</code></th>
              <td class="num"><Value row={row} /></td>
            </tr>
          ))}
        </tbody>
      </table>
      {rows.length > ROWS && <p class="muted inset">and {rows.length - ROWS} more series</p>}
    </>
  )
}

function Value({ row }: { row: Row }) {
  if (row.value !== undefined) return <>{row.value[1]}</>
  if (row.histogram !== undefined) return <>histogram: count {row.histogram[1].count}, sum {row.histogram[1].sum}</>
  return (
    <ul class="samples">
      {row.values?.map(([time, value]) => <li key={time}>{value} <span class="muted">@ {localTime(time)}</span></li>)}
    </ul>
  )
}

function NoSeries({ expr }: { expr: string }) {
  const metric = /[a-zA-Z_:][\w:]*(?=\s*[{[])|^[a-zA-Z_:][\w:]*$/.exec(expr)?.[0]
  return (
    <Empty title="No series">
      <p>
        The expression is right, and nothing is stored for it in this time. The input suggests the names and labels that are.
        {metric !== undefined && metric !== expr && <> Look at all of <a href={href('query', { expr: metric, tab: 'table' })}><code>{metric}</code></a>.</>}
      </p>
    </Empty>
  )
}

function Examples() {
  return (
    <Empty title="Ask something">
      <p>Type a metric's name and take one of the suggestions, or begin with one of these:</p>
      <ul class="examples">
        {EXAMPLES.map(([expr, says]) => (
          <li key={expr}><a href={href('query', { expr })}><code>{expr}</code></a> <span class="muted">{says}</span></li>
        ))}
      </ul>
    </Empty>
  )
}
