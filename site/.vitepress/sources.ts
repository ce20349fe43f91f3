/**
 * Pages of source files. A page of the documentation may link to a file of the repository, such as a scenario. On the
 * site that link leads to a page that shows the file.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { extname, join, normalize } from 'node:path';
import type { MarkdownRenderer } from 'vitepress';
import { ROOT } from './pages.ts';

const IS_SOURCE = /^(\.\.\/)?[\w./-]+\.(ya?ml|ts|json|c|h|lua)$/;

/** The files that pages of docs/ link to, as paths from the repository's root. */
export function linkedSources(): string[] {
  const folder = join(ROOT, 'docs');
  const pages = readdirSync(folder).filter((name) => name.endsWith('.md'));
  const targets = pages.flatMap((page) =>
    [...readFileSync(join(folder, page), 'utf8').matchAll(/\]\(([^)\s#]+)/g)].map((match) => match[1]),
  );
  const sources = targets.filter((target) => IS_SOURCE.test(target)).map((target) => normalize(`docs/${target}`));
  return [...new Set(sources)].sort();
}

/** The file as a page: its path is the title, its text one block of code. */
export function sourcePage(path: string): string {
  const text = readFileSync(join(ROOT, path), 'utf8').trimEnd();
  return `# ${path}\n\n\`\`\`\`${extname(path).slice(1)}\n${text}\n\`\`\`\`\n`;
}

/** Makes links to source files lead to their pages. A README is the index of its folder, as the site's address says. */
export function linkSources(md: MarkdownRenderer): void {
  md.core.ruler.push('link-sources', ({ tokens }) => {
    for (const link of tokens.flatMap(({ children }) => children ?? [])) {
      const target = link.type === 'link_open' ? (link.attrGet('href') ?? '') : '';
      if (/(^|\/)README\.md$/.test(target)) link.attrSet('href', target.replace('README.md', 'index.md'));
      if (IS_SOURCE.test(target)) link.attrSet('href', `/source/${normalize(`docs/${target}`)}.html`);
    }
  });
}
