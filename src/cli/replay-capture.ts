/** `barter replay CAPTURE --to SOCKET`: a capture's commands again, to any server. */
import { Errno } from '../abi/errno.ts';
import { decodeCapture } from '../report/capture.ts';
import { type ReplayDifference, type ReplayResult, replayTo } from '../vfio-user/exchange/replay.ts';
import { devicesOf, type RecordedConnection, scriptOf } from '../vfio-user/exchange/replay-script.ts';
import { known, UsageError } from './usage.ts';

export interface ReplayCaptureFlags {
  to: string;
  device?: string;
  ignore?: string[];
  json?: boolean;
}

/** Differences that the text form shows. */
const SHOWN = 20;
const SHOWN_TEXT = 100;

/** `file` is the content of `path`. */
export function replayCapture(path: string, file: Buffer, flags: ReplayCaptureFlags): void {
  const { device, connections, isCut } = load(path, file, flags.device);
  const result = play(flags.to, connections);
  const ignored = new Set(flags.ignore ?? []);
  const isIgnored = ({ message, field }: ReplayDifference) =>
    ignored.has(field) || ignored.has(`${message.split(' ')[0]}.${field}`);
  const differences = result.differences.filter((each) => !isIgnored(each));
  const { commands, replies, end } = result;
  const isSame = differences.length === 0 && end === null;
  if (flags.json === true) {
    console.log(JSON.stringify({ ok: isSame, device, commands, replies, differences, end, isCut }));
  } else {
    if (isCut) console.log(`${path} ends in the middle of a message; the messages before it are said.`);
    console.log(`${device}: ${commands} commands said, ${replies} replies compared.`);
    for (const each of differences.slice(0, SHOWN)) console.log(textOf(each));
    if (differences.length > SHOWN) console.log(`... and ${differences.length - SHOWN} more; --json has all.`);
    if (end !== null) console.log(`It ended early: ${end}`);
    console.log(isSame ? 'The replies are the same.' : `The replies differ: ${differences.length} differences.`);
  }
  if (!isSame) process.exitCode = 1;
}

function load(path: string, file: Buffer, wanted: string | undefined) {
  try {
    const { messages, isCut } = decodeCapture(file);
    const devices = devicesOf(messages);
    if (devices.length === 0) throw new UsageError(`${path} has no client's messages; there is nothing to say again`);
    if (wanted === undefined && devices.length > 1) {
      throw new UsageError(`${path} has several devices; choose one by --device: ${devices.join(', ')}`);
    }
    const device = wanted === undefined ? devices[0] : known('device', wanted, devices);
    return { device, isCut, connections: scriptOf(messages, device) };
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new UsageError(`${path} is not a capture of barter serve --pcap: ${(error as Error).message}`);
  }
}

function play(socket: string, connections: readonly RecordedConnection[]): ReplayResult {
  try {
    return replayTo(socket, connections);
  } catch (error) {
    if (!(error instanceof Errno)) throw error;
    throw new UsageError(`--to ${socket}: ${error.message}`);
  }
}

function textOf({ connection, exchange, message, field, was, is }: ReplayDifference): string {
  const cut = (text: string) => (text.length > SHOWN_TEXT ? `${text.slice(0, SHOWN_TEXT)}...` : text);
  return `  connection ${connection}, exchange ${exchange}, ${message}: ${field} was ${cut(was)}, is ${cut(is)}`;
}
