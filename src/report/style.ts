/** The style of the page of a run, light and dark, and its small script. */

export const STYLE = `
:root{color-scheme:light dark;--ink:#17202b;--soft:#5b6b80;--paper:#f6f8fb;--card:#fff;--line:#c9d3df;--faint:#e4eaf1;
--blue:#2563eb;--hot:#0f3fb3;--amber:#b45309;--red:#c81e1e;--redfaint:#fde8e8;--on:#dbe7fb;--off:#eef1f5;
--l0:#d97706;--l1:#0d9488;--l2:#7c3aed;--l3:#db2777;--l4:#65a30d;--l5:#0284c7}
@media(prefers-color-scheme:dark){:root{--ink:#e3e9f1;--soft:#93a1b5;--paper:#0e141d;--card:#1a2330;--line:#38455a;
--faint:#1d2735;--blue:#6ea3ff;--hot:#a9c7ff;--amber:#f5a524;
--red:#f26d6d;--redfaint:#3a1a1f;--on:#1f3a63;--off:#1a222e;
--l0:#f59e0b;--l1:#2dd4bf;--l2:#a78bfa;--l3:#f472b6;--l4:#a3e635;--l5:#38bdf8}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:14px/1.5 system-ui,sans-serif}
header{padding:18px 24px 10px;max-width:1240px}
h1{font-size:21px;margin:0 0 2px}h2{font-size:15px;margin:28px 0 6px}
p{margin:4px 0}.bad{color:var(--red);font-weight:600}.good{color:var(--blue);font-weight:600}
.facts{color:var(--soft)}a{color:var(--blue)}
ul.stuck{margin:6px 0;padding-left:20px}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;color:var(--soft);font-size:12.5px;margin-top:6px}
.legend i{display:inline-block;width:26px;height:10px;margin-right:6px;border-radius:2px;vertical-align:-1px}
main{padding:0 24px 48px}
.scroll{overflow-x:auto;overflow-y:visible}
.heads{position:sticky;top:0;z-index:2;background:var(--paper);border-bottom:1px solid var(--line);height:34px}
.heads span{position:absolute;bottom:6px;font-weight:600;white-space:nowrap;overflow:hidden;text-overflow:ellipsis}
.heads .object{font:11px ui-monospace,monospace;color:var(--soft);bottom:7px}
svg{display:block}svg text{font:12px ui-monospace,monospace;fill:var(--ink)}
svg .index{fill:var(--soft);text-anchor:end;font-size:11px}
svg .source{fill:var(--soft);font-size:10px}
svg .activity{font:600 11px system-ui,sans-serif;fill:var(--soft)}
svg .lane{stroke:var(--line);stroke-dasharray:2 4}
svg .stripe{fill:var(--redfaint)}
svg .cut{stroke:var(--soft);stroke-dasharray:6 4;stroke-opacity:.7;fill:none}
svg .box{fill:var(--card);stroke:var(--line)}svg .wait{stroke:var(--amber);stroke-width:1.6}
svg .fails{fill:var(--red);stroke:var(--red)}svg .fails~text,svg .fails~.source{fill:#fff}
@media(prefers-color-scheme:dark){svg .fails{fill:#b42323;stroke:#f26d6d}}
svg .step{cursor:pointer}svg .step:hover .box{stroke:var(--hot);stroke-width:1.6}
svg .chosen .box{stroke:var(--hot);stroke-width:2.4}
svg .arrow{fill:none;stroke:var(--blue);stroke-opacity:.4;stroke-width:1.3;marker-end:url(#tip)}
svg .arrow:hover,svg .arrow.hot{stroke:var(--hot);stroke-opacity:1;stroke-width:2.2;marker-end:url(#tip-hot)}
#tip path{fill:var(--blue);fill-opacity:.6}#tip-hot path{fill:var(--hot)}
svg .lock.shared{fill-opacity:.4}
${[0, 1, 2, 3, 4, 5].map((i) => `svg .l${i}{fill:var(--l${i})}`).join('')}
svg .state rect{fill:var(--off)}svg .on rect{fill:var(--on)}svg .state text{font-size:10px;fill:var(--ink)}
svg .off text{fill:var(--soft)}
#detail{position:fixed;right:16px;bottom:16px;width:430px;max-width:calc(100vw - 32px);background:var(--card);
border:1px solid var(--line);border-radius:8px;padding:10px 14px;box-shadow:0 6px 24px rgb(0 0 0/.18);z-index:3;
font:12px/1.5 ui-monospace,monospace}
#detail b{font:600 13px system-ui,sans-serif}#detail pre{margin:6px 0 0;white-space:pre-wrap;color:var(--soft)}
#detail button{float:right;border:0;background:none;color:var(--soft);font-size:16px;cursor:pointer}
table{border-collapse:collapse}th,td{text-align:left;padding:3px 16px 3px 0;border-bottom:1px solid var(--faint);
font:12px ui-monospace,monospace;vertical-align:top}th{color:var(--soft);font-weight:600}
tr.fails td{background:var(--redfaint)}td.n{color:var(--soft)}`;

/** The page has the same content without it: titles, the table and the drawing. */
export const SCRIPT = `
const steps = JSON.parse(document.getElementById('steps').textContent);
const detail = document.getElementById('detail');
const boxes = [...document.querySelectorAll('.step[data-step]')];
const arrows = [...document.querySelectorAll('.arrow')];
let chosen = -1;
function choose(index, scroll) {
  chosen = index;
  for (const box of boxes) box.classList.toggle('chosen', Number(box.dataset.step) === index);
  for (const arrow of arrows) {
    const hot = Number(arrow.dataset.from) === index || Number(arrow.dataset.to) === index;
    arrow.classList.toggle('hot', hot);
    if (hot) arrow.parentNode.insertBefore(arrow, boxes[0]);
  }
  detail.hidden = index < 0;
  if (index < 0) return;
  const { task, activity, op, object, state, stack, after } = steps[index];
  detail.querySelector('b').textContent = 'Step ' + index + ', ' + task + ': ' + op + ' ' + object;
  const said = [activity, state, after.length > 0 ? 'comes after ' + after.join(', ') : ''];
  detail.querySelector('span').textContent = said.filter((part) => part !== '').join(' \\u00b7 ');
  detail.querySelector('pre').textContent = stack.join('\\n');
  if (scroll) document.getElementById('s' + index).scrollIntoView({ block: 'center', behavior: 'smooth' });
}
for (const box of boxes) box.addEventListener('click', () => choose(Number(box.dataset.step)));
detail.querySelector('button').addEventListener('click', () => choose(-1));
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape') choose(-1);
  const move = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 }[event.key];
  if (move === undefined) return;
  event.preventDefault();
  choose(Math.min(steps.length - 1, Math.max(0, chosen + move)), true);
});
`;
