/**
 * A peer's memory on a screen. A guest's vfio-pci lends a slice of a served device's BAR. The kernel's own virtio_gpu
 * imports it by PRIME and shows it on a served virtio GPU. Each trigger takes it away again: from then on the GPU's
 * reads of it are errors.
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { Errno } from '../../../src/abi/errno.ts';
import { packageFile } from '../../../src/linux/package-file.ts';
import { holdCommands, readScreen } from '../../../src/machine/screen/client.ts';
import { screenPath } from '../../../src/machine/screen/protocol.ts';
import type { PeerTrigger, ScreenTrialAnswer, ScreenTrialRequest } from '../../agent/calls.ts';
import { TRIGGER_NAMES, TRIGGERS } from '../../agent/triggers.ts';
import { CommandError } from '../../host/command.ts';
import { Guest, guestAddress } from '../../host/guest.ts';
import { pattern } from '../../importer/pattern.ts';
import { type LabOptions, type LabResult, labRun, Served, type Started, type Steps } from '../run.ts';

const MACHINE = packageFile('lab/runs/screen/machine.yaml');
const MODULE = 'virtio_gpu';
const MIB = 2 ** 20;
const OFFSET = 16 * MIB;
const DETACH = 'VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING';
const TIMEOUT_MS = 20_000;
const POLL_MS = 50;
const UNBIND = 'basename /sys/bus/pci/devices/GPU/virtio* > /sys/bus/virtio/drivers/virtio_gpu/unbind';

export function virtioGpu(options: LabOptions): Promise<LabResult> {
  return labRun(options, async (steps, started) => {
    const pair = await startPairs(steps, started, options);
    const screen = await pair(0);
    await screen.console();
    await screen.draw(1);
    screen.paint(2);
    await screen.lend();
    screen.comparePicture('the picture in the BAR is on the screen', 2);
    screen.paint(3);
    screen.comparePicture('a new picture in the BAR is there without a command', 3);
    for (const [i, trigger] of TRIGGER_NAMES.entries()) await screen.revokeBy(trigger, 10 + i);
    await screen.answerLate();
    await screen.closeImporter();
    await screen.call({ do: 'end' });
    await (await pair(1)).revokeWithoutEnd('a reset of the GPU', 'echo 1 > /sys/bus/pci/devices/GPU/reset');
    await (await pair(2)).revokeWithoutEnd('an unbind of its driver', UNBIND);
    await screen.waitForReports();
    return screen.release;
  });
}

/** Boots a guest with pairs of a lender and a GPU. Returns a function that gives pair number `i`. */
async function startPairs(
  steps: Steps,
  started: Started,
  options: LabOptions,
): Promise<(i: number) => Promise<ScreenPair>> {
  if (options.kernel.modules()?.find(MODULE) == null) {
    throw new CommandError(`the ${options.kernel.name} kernel has no module ${MODULE}; the distribution's has`);
  }
  const served = await steps.take(
    'serve lenders and GPUs',
    async () => started.add(await Served.start(MACHINE)),
    ({ pid }) => `process ${pid}`,
  );
  const devices = [...served.sockets.keys()].map((name) => served.qemuDevice(name));
  const guest = await steps.take('boot the guest', async () =>
    started.add(await Guest.boot({ ...options, devices, modules: [MODULE] })),
  );
  const { release } = await guest.call('hello', {});
  return async (i) => {
    const addresses = { lender: guestAddress(2 * i), gpu: guestAddress(2 * i + 1) };
    await guest.call('bind', { addresses: [addresses.lender] });
    const driver = `basename $(readlink /sys/bus/pci/devices/${addresses.gpu}/virtio*/driver)`;
    const { stdout } = await guest.call('shell', { command: `${driver}; grep '^${i} ' /proc/fb` });
    const bound = stdout.trim().split('\n');
    steps.compare(`GPU ${i} has its driver, and a framebuffer`, ['virtio_gpu', `${i} virtio_gpudrmfb`], bound);
    const { width, height } = await guest.call('screen', { do: 'begin', addresses });
    steps.compare('its screen has the pixels of the machine file', [1024, 768], [width, height]);
    const screen = screenPath(served.sockets.get(`gpu${i}`)!);
    const bar = served.barFile(`lender${i}.bar0`);
    return new ScreenPair(steps, guest, release, { screen, bar, gpu: addresses.gpu, sizeBytes: width! * height! * 4 });
  };
}

interface PairPlaces {
  /** The socket of the GPU's screen. */
  screen: string;
  /** The file of the lender's BAR. */
  bar: string;
  /** The GPU's address in the guest. */
  gpu: string;
  /** The bytes of a screen. */
  sizeBytes: number;
}

/** A lender, and a GPU that the kernel's driver has bound. */
class ScreenPair {
  readonly release: string;
  private readonly steps: Steps;
  private readonly guest: Guest;
  private readonly places: PairPlaces;

  constructor(steps: Steps, guest: Guest, release: string, places: PairPlaces) {
    this.steps = steps;
    this.guest = guest;
    this.release = release;
    this.places = places;
  }

  call(request: ScreenTrialRequest): Promise<ScreenTrialAnswer> {
    return this.guest.call('screen', request);
  }

  async lend(): Promise<void> {
    await this.steps.take('lend a screen of the BAR, import it by PRIME, show it', () =>
      this.call({ do: 'lend', offset: OFFSET }),
    );
  }

  /** The framebuffer console writes text on the screen. */
  async console(): Promise<void> {
    const before = this.picture();
    await this.guest.call('shell', { command: 'echo "Barter lends memory" > /dev/tty1' });
    const limit = performance.now() + TIMEOUT_MS;
    let seen = before;
    while (performance.now() < limit && (typeof seen === 'string' || isEqual(seen, before))) {
      await delay(POLL_MS);
      seen = this.picture();
    }
    const isWritten = typeof seen !== 'string' && !isEqual(seen, before);
    this.steps.compare('the framebuffer console writes on the screen', true, isWritten);
  }

  /** A DRM program's own buffer. */
  async draw(seed: number): Promise<void> {
    await this.steps.take('a DRM program draws in the memory of the guest', () => this.call({ do: 'draw', seed }));
    this.comparePicture('its picture is on the screen', seed);
  }

  /** Writes a picture into the BAR, in the lender's own process. */
  paint(seed: number): void {
    const bytes = pattern(seed, 0, this.places.sizeBytes);
    const bar = openSync(this.places.bar, 'r+');
    writeSync(bar, bytes, 0, bytes.length, OFFSET);
    closeSync(bar);
  }

  comparePicture(name: string, seed: number): void {
    const seen = this.picture();
    const wrong = typeof seen === 'string' ? seen : wrongPixels(seen, pattern(seed, 0, this.places.sizeBytes));
    this.steps.compare(`${name}: pixels that differ`, 0, wrong);
  }

  async revokeBy(trigger: PeerTrigger, seed: number): Promise<void> {
    const { steps } = this;
    await steps.take(
      `${trigger}: taken back while it is on the screen`,
      () => this.call({ do: 'revoke', trigger }),
      ({ triggerMs }) => ({ triggerMs }),
    );
    steps.compare(`${trigger}: the screen cannot be read any more`, 'EIO', this.error());
    const isBack = TRIGGERS[trigger].lendsAgain === true;
    const { shown } = await this.call({ do: 'show' });
    steps.compare(`${trigger}: showing it again`, isBack ? 'ok' : 'ENODEV', shown);
    if (!isBack) steps.compare(`${trigger}: the screen still cannot be read`, 'EIO', this.error());
    const restored = await this.call({ do: 'restore', trigger });
    steps.compare(`${trigger}: restored, and shown`, 'ok', restored.shown);
    this.paint(seed);
    this.comparePicture(`${trigger}: restored`, seed);
  }

  /** A device that answers DETACH_BACKING late: the revoke waits for it. */
  async answerLate(): Promise<void> {
    const { steps } = this;
    holdCommands(this.places.screen, [DETACH]);
    const { revoke } = await this.call({ do: 'start-revoke' });
    steps.compare('the device does not answer DETACH_BACKING: the revoke', 'blocked', revoke);
    holdCommands(this.places.screen, []);
    const limit = performance.now() + TIMEOUT_MS;
    let after = await this.call({ do: 'join-revoke' });
    while (after.revoke === 'blocked' && performance.now() < limit) after = await this.call({ do: 'join-revoke' });
    steps.compare('it answers late: the revoke', 'ended', after.revoke);
    steps.compare('the screen cannot be read', 'EIO', this.error());
    steps.compare('restored, and shown', 'ok', (await this.call({ do: 'show' })).shown);
    this.paint(30);
    this.comparePicture('restored', 30);
  }

  /** The importer lets go first. */
  async closeImporter(): Promise<void> {
    await this.steps.take('close the handle and the descriptor while they are on the screen', () =>
      this.call({ do: 'drop' }),
    );
    this.steps.compare('the screen shows nothing', 'ENODATA', this.error());
    await this.draw(1);
  }

  /**
   * Takes the GPU from its driver while its buffer is imported, and then revokes. The driver waits for an answer that
   * nobody gives any more (docs/kernel-findings.md, 10).
   */
  async revokeWithoutEnd(what: string, command: string): Promise<void> {
    const { steps } = this;
    this.paint(2);
    await this.lend();
    this.comparePicture('the picture in the BAR is on the screen', 2);
    await this.guest.call('shell', { command: command.replaceAll('GPU', this.places.gpu) });
    steps.compare(`${what}: the screen shows nothing`, 'ENODATA', this.error());
    const { revoke } = await this.call({ do: 'start-revoke' });
    steps.compare(`${what}: a revoke after it (docs/kernel-findings.md, 10)`, 'blocked', revoke);
  }

  /** Has the kernel's own detector report the two tasks that wait for good, and powers off what cannot end. */
  async waitForReports(): Promise<void> {
    const set = Object.entries({ warnings: 2, check_interval_secs: 1, timeout_secs: 1 })
      .map(([name, value]) => `echo ${value} > /proc/sys/kernel/hung_task_${name}`)
      .join('; ');
    const count = "dmesg | grep -c 'blocked for more than'";
    const wait = `for i in $(seq 20); do [ "$(${count})" = 2 ] && break; sleep 0.5; done; ${count}`;
    const { stdout } = await this.guest.call('shell', { command: `dmesg -n 8; ${set}; ${wait}` });
    this.steps.compare('tasks that the kernel reports as hung', '2', stdout.trim());
    await this.guest.call('shell', { command: '(sleep 0.5; echo o > /proc/sysrq-trigger) > /dev/null 2>&1 &' });
  }

  /** The errno of reading the screen, or 'ok'. */
  private error(): string {
    const picture = this.picture();
    return typeof picture === 'string' ? picture : 'ok';
  }

  private picture(): Uint8Array | string {
    try {
      return readScreen(this.places.screen, 0).pixels;
    } catch (error) {
      if (error instanceof Errno) return error.code;
      throw error;
    }
  }
}

function isEqual(one: Uint8Array | string, other: Uint8Array | string): boolean {
  if (typeof one === 'string' || typeof other === 'string') return one === other;
  return Buffer.compare(one, other) === 0;
}

/** Compares RGBA pixels with pixels in the order blue, green, red. Returns the number of pixels that differ. */
function wrongPixels(seen: Uint8Array, wanted: Uint8Array): number | string {
  if (seen.length !== wanted.length) return `${seen.length} bytes, not ${wanted.length}`;
  let wrong = 0;
  for (let at = 0; at < seen.length; at += 4) {
    const isRight =
      seen[at] === wanted[at + 2] &&
      seen[at + 1] === wanted[at + 1] &&
      seen[at + 2] === wanted[at] &&
      seen[at + 3] === 255;
    if (!isRight) wrong += 1;
  }
  return wrong;
}
