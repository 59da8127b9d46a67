// Builds src/ into the Python package, where it is checked in: whoever installs Bellbuoy needs no Node.
//
// `sources.sha256` beside the bundle says from which sources it was built; tests/ui computes the same and compares, so
// that a change in src/ without a new bundle is found. `npm run dev` serves src/ itself and passes /api to $BELLBUOY_API.
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { defineConfig, type Plugin } from 'vite'

const ROOTS = ['index.html', 'package-lock.json', 'package.json', 'public', 'src', 'tsconfig.json', 'vite.config.ts']

/** One hash over all sources: of the sorted lines `path <space> sha256 of its content`. */
function sourcesHash(root: string): string {
  const files: string[] = []
  for (const name of ROOTS) {
    const entries = name.includes('.') ? [] : readdirSync(join(root, name), { recursive: true, withFileTypes: true })
    if (name.includes('.')) files.push(name)
    for (const entry of entries) {
      if (entry.isFile()) files.push(join(entry.parentPath, entry.name).slice(root.length + 1).replaceAll('\\', '/'))
    }
  }
  const whole = createHash('sha256')
  for (const file of files.sort()) {
    whole.update(`${file} ${createHash('sha256').update(readFileSync(join(root, file))).digest('hex')}\n`)
  }
  return whole.digest('hex')
}

function stamp(root: string): Plugin {
  return {
    name: 'stamp',
    generateBundle() {
      this.emitFile({ type: 'asset', fileName: 'sources.sha256', source: `${sourcesHash(root)}\n` })
    },
  }
}

export default defineConfig({
  base: './',
  plugins: [stamp(import.meta.dirname)],
  build: {
    outDir: '../agents/bellbuoy/server/static',
    emptyOutDir: true,
    target: 'es2022',
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0, // a data: URL is not 'self'
  },
  server: {
    host: '127.0.0.1',
    proxy: { '/api': process.env['BELLBUOY_API'] ?? 'http://127.0.0.1:9090' },
  },
})
