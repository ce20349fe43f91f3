// Runs the test files of its arguments in one process: their start costs more than most of them.
import { pathToFileURL } from 'node:url';

for (const file of process.argv.slice(2)) await import(pathToFileURL(file).href);
