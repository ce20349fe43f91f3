/** Wireshark's tools, which share no code with the writer of captures. `npm test` installs them. */
import { spawnSync } from 'node:child_process';

const isHere = spawnSync('tshark', ['--version']).status === 0;

/** For the `skip` of a test. CI must have the tools; elsewhere the test skips with a message. */
export const skip: string | false =
  !isHere && process.env.CI === undefined ? 'no tshark on this machine; apt-get install tshark' : false;

/** Runs a tool and returns its output. Throws where it fails or complains. */
export function wireshark(tool: 'tshark' | 'capinfos', ...args: string[]): string {
  const { status, stdout, stderr, error } = spawnSync(tool, args, { encoding: 'utf8', maxBuffer: 1 << 30 });
  if (error !== undefined) throw error;
  // tshark mentions root and a home that is not there on any run.
  const complaints = stderr.split('\n').filter((line) => !/^$|Running as user "root"/.test(line));
  if (status !== 0 || complaints.length > 0) throw new Error(`${tool}: status ${status}: ${complaints.join('\n')}`);
  return stdout;
}

/** The fields of each packet of a file, as text. */
export function packetFields(path: string, ...fields: string[]): string[][] {
  const out = wireshark('tshark', '-r', path, '-T', 'fields', ...fields.flatMap((field) => ['-e', field]));
  return out
    .split('\n')
    .slice(0, -1)
    .map((line) => line.split('\t'));
}
