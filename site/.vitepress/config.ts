/**
 * The site: README, docs/ and the other pages for people, the API reference that TypeDoc writes to site/api/, and a
 * page for each source file that a page links to. The pages stay where they are; nothing is copied.
 */
import { readFileSync } from 'node:fs';
import { defineConfig } from 'vitepress';
import { drawMermaid } from './mermaid.ts';
import { API_SIDEBAR, ROOT, sectionsOfDocs } from './pages.ts';
import { linkSources } from './sources.ts';

const { description, repository } = JSON.parse(readFileSync(`${ROOT}/package.json`, 'utf8'));

/** Two arrows that pass each other. It is in each page, so that none asks for a file of its own. */
const ICON = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16" fill="none" stroke="#3451b2" stroke-width="2">
<path d="M2 5h11M10 2l3 3-3 3M14 11H3M6 8l-3 3 3 3"/></svg>`;

export default defineConfig({
  title: 'Barter',
  description,
  lang: 'en',
  head: [['link', { rel: 'icon', href: `data:image/svg+xml,${encodeURIComponent(ICON)}` }]],
  srcDir: '..',
  srcExclude: ['!(docs|site)/**/*.md'],
  outDir: 'dist',
  cacheDir: '.cache',
  rewrites: {
    'README.md': 'index.md',
    'docs/README.md': 'docs/index.md',
    'site/api/:rest*': 'api/:rest*',
    'site/source/:rest*': 'source/:rest*',
  },
  markdown: {
    config: (md) => {
      drawMermaid(md);
      linkSources(md);
    },
  },
  themeConfig: {
    search: { provider: 'local' },
    outline: 'deep',
    nav: [
      { text: 'Documentation', link: '/docs/' },
      { text: 'API', link: '/api/' },
      { text: 'Changes', link: '/CHANGELOG' },
    ],
    sidebar: {
      '/api/': [{ text: 'API', link: '/api/', items: API_SIDEBAR }],
      '/': sectionsOfDocs(),
    },
    socialLinks: [{ icon: 'github', link: repository.url.replace(/^git\+|\.git$/g, '') }],
  },
});
