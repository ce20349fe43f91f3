/** barter lab prepare, and the preparation that other commands of the lab do first. */
import { labCache } from '../../lab/host/cache.ts';
import { missingStages, type PrepareProgress, prepareLab, type StageName } from '../../lab/host/prepare.ts';
import type { LabKernel } from '../../lab/kernel/kernel.ts';
import { isImporterReady } from '../../lab/kernel/module-build.ts';

export async function prepare(kernel: LabKernel, json: boolean): Promise<void> {
  const started = Date.now();
  await prepareLab(new StageProgress(), kernel);
  const seconds = (Date.now() - started) / 1000;
  if (json) return console.log(JSON.stringify({ ok: true, cache: labCache(), kernel: kernel.name, seconds }));
  const options = kernel.name === 'distribution' ? '' : ` --kernel ${kernel.name}`;
  console.log(`The lab is ready in ${labCache()}. Next: barter lab run guest-export${options}`);
}

/** Makes the missing stages, and prints the stage that it waits for. */
export async function prepareMissing(kernel: LabKernel, json: boolean, also: readonly StageName[] = []): Promise<void> {
  const missing = missingStages(kernel, also);
  if (missing.length === 0 && isImporterReady(kernel)) return;
  if (!json && missing.length > 0) {
    console.error(`The lab is not ready (${missing.join(', ')}); preparing it, which takes some minutes.`);
  }
  await prepareLab(new StageProgress(), kernel, also);
}

/** A stage that usually takes this long prints a line at its start in a log file too, to explain the silence. */
const LONG_STAGE_SECONDS = 60;

/** Prints a line for each stage on stderr; on a terminal with a running clock. */
class StageProgress implements PrepareProgress {
  private started = 0;
  private timer: NodeJS.Timeout | null = null;

  begin(stage: string, what: string, usualSeconds: number): void {
    this.started = Date.now();
    const seconds = () => Math.round((Date.now() - this.started) / 1000);
    const line = () => `${stage.padEnd(15)} ${what} ... ${seconds()} s, usually about ${usualSeconds} s`;
    if (!process.stderr.isTTY) {
      if (usualSeconds >= LONG_STAGE_SECONDS) process.stderr.write(`${line()}\n`);
      return;
    }
    process.stderr.write(line());
    this.timer = setInterval(() => process.stderr.write(`\r${line()}`), 1000);
  }

  wait(pid: string): void {
    process.stderr.write(`Process ${pid} is preparing the lab; waiting for it ...\n`);
  }

  end(stage: string, cached: boolean): void {
    if (this.timer !== null) clearInterval(this.timer);
    const seconds = ((Date.now() - this.started) / 1000).toFixed(1);
    process.stderr.write(
      `${process.stderr.isTTY ? '\r\x1b[K' : ''}${stage.padEnd(15)} ${cached ? 'there already' : `made in ${seconds} s`}\n`,
    );
  }
}
