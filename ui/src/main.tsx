// The page's beginning.
import { render } from 'preact'
import { App } from './app'
import { adoptPrometheusLink } from './route'
import './style.css'

const root = document.getElementById('app')
if (root === null) throw new Error('BUG: index.html has no #app')
adoptPrometheusLink()
render(<App />, root)
