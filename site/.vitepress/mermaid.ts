/** Draws Mermaid diagrams when the site is built, as SVG in the page's colours. The pages need no script for them. */
import { renderMermaidSVG } from 'beautiful-mermaid';
import type { MarkdownRenderer } from 'vitepress';

const COLOURS = {
  bg: 'var(--vp-c-bg)',
  fg: 'var(--vp-c-text-1)',
  line: 'var(--vp-c-text-3)',
  border: 'var(--vp-c-border)',
  surface: 'var(--vp-c-bg-soft)',
};

/** The diagram as SVG, without the fonts that it would fetch from elsewhere. */
function draw(source: string): string {
  const svg = renderMermaidSVG(source, { ...COLOURS, font: 'system-ui', transparent: true, padding: 8 });
  return svg.replace(/@import url\([^)]*\);/g, '');
}

/** Replaces the rule for fenced code: blocks of Mermaid become drawings. */
export function drawMermaid(md: MarkdownRenderer): void {
  const fence = md.renderer.rules.fence!;
  md.renderer.rules.fence = (tokens, index, ...rest) => {
    const { info, content } = tokens[index];
    if (info.trim() !== 'mermaid') return fence(tokens, index, ...rest);
    // A page is a Vue template, which must not have a <style>. A bound string may.
    const svg = encodeURIComponent(draw(content)).replaceAll("'", '%27');
    return `<div class="mermaid" v-html="decodeURIComponent('${svg}')"></div>\n`;
  };
}
