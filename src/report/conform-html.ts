/** The judgement of a conformance kit as one HTML page. */
import { entryText } from '../conform/exchange.ts';
import { groupsOf, type JudgedRule, type JudgedTrial, type Judgement, summaryOf } from './conform.ts';
import { esc } from './escape.ts';

const STYLE = `
:root{color-scheme:light dark;--bad:#b3261e;--good:#1b6e35;--soft:#777}
@media(prefers-color-scheme:dark){:root{--bad:#ff8a80;--good:#7bd88f;--soft:#999}}
body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}
h2{margin-top:2.5rem}summary{cursor:pointer}summary b{font-family:ui-monospace,monospace;font-weight:600}
.verdict{display:inline-block;min-width:8.5rem;font-weight:600}.bad{color:var(--bad)}.good{color:var(--good)}
.soft{color:var(--soft)}pre{overflow-x:auto;font-size:12px;background:rgba(128,128,128,.12);padding:.6rem}
details>*:not(summary){margin-left:8.8rem}`;

/** The page does not need other files or a network. Faults are open, all else is folded. */
export function conformHtml(judgement: Judgement): string {
  const { title, target, groups, rules } = judgement;
  const there = groupsOf(groups, rules);
  const sections = there.map(({ id, name, rules: own }) => {
    return `<h2 id="${esc(id)}">${esc(name)}</h2>\n${own.map((rule) => ruleHtml(judgement, rule)).join('\n')}`;
  });
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${esc(title)}</title>
<style>${STYLE}</style>
</head>
<body>
<h1>${esc(title)}</h1>
<p><code>${esc(target)}</code></p>
<p>${esc(summaryOf(judgement))}. <code>&gt;</code> was sent, <code>&lt;</code> received; the number is the connection's.</p>
<p>${there.map(({ id, name }) => `<a href="#${esc(id)}">${esc(name)}</a>`).join(' · ')}</p>
${sections.join('\n')}
</body>
</html>
`;
}

function ruleHtml(judgement: Judgement, { id, says, chapter, verdict, isFault, results }: JudgedRule): string {
  const colour = isFault ? 'bad' : verdict === judgement.skipped ? 'soft' : 'good';
  return `<details id="${esc(id)}"${isFault ? ' open' : ''}>
<summary><span class="verdict ${colour}">${esc(verdict)}</span><b>${esc(id)}</b> ${esc(says)}
<span class="soft">${esc(chapter)}</span></summary>
${results.map(trialHtml).join('\n')}
</details>`;
}

function trialHtml({ device, verdict, text, exchange }: JudgedTrial): string {
  const said = text === '' ? '' : `: ${esc(text)}`;
  const lines = exchange.map((entry) => esc(entryText(entry))).join('\n');
  return `<p>${esc(device)}, ${esc(verdict)}${said}</p>${lines === '' ? '' : `<pre>${lines}</pre>`}`;
}
