import { linkedSources, sourcePage } from '../.vitepress/sources.ts';

export default {
  paths: () => linkedSources().map((file) => ({ params: { file }, content: sourcePage(file) })),
};
