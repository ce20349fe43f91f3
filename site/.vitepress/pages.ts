/** The site's sidebars. docs/README.md is the one list of the pages; TypeDoc lists the API's. */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { DefaultTheme } from 'vitepress';

/** The repository. */
export const ROOT = join(dirname(fileURLToPath(import.meta.url)), '../..');

const read = (path: string) => readFileSync(join(ROOT, path), 'utf8');

const titleOf = (page: string) => /^# (.*)$/m.exec(read(`docs/${page}`))![1].replaceAll('`', '');

/** The sections of "All pages" in docs/README.md, and their pages by title. */
export function sectionsOfDocs(): DefaultTheme.SidebarItem[] {
  const [, list] = read('docs/README.md').split('## All pages');
  return list
    .split(/^\*\*/m)
    .slice(1)
    .map((section) => ({
      text: section.slice(0, section.indexOf('**')),
      items: [...section.matchAll(/^- \[[^\]]*\]\(([\w-]+)\.md\)/gm)].map(([, page]) => ({
        text: titleOf(`${page}.md`),
        link: `/docs/${page}`,
      })),
    }));
}

const written = join(ROOT, 'site/api/typedoc-sidebar.json');

/** TypeDoc's list of modules and what they export. Empty before TypeDoc has run. */
export const API_SIDEBAR: DefaultTheme.SidebarItem[] = existsSync(written)
  ? JSON.parse(readFileSync(written, 'utf8'))
  : [];
