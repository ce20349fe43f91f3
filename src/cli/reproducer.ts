/** barter reproducer: a scenario as one C file. */
import { writeFileSync } from 'node:fs';
import type { Command } from 'commander';
import { Errno } from '../abi/errno.ts';
import { DocumentError } from '../machine/yaml.ts';
import { namedPrograms, namedReproducer } from '../reproduce/named.ts';
import { reproducer } from '../reproduce/program.ts';
import { ReproducerError } from '../reproduce/steps.ts';
import { loadScenario } from '../scenario/load.ts';
import { declareCommand } from './summaries.ts';
import { UsageError } from './usage.ts';

const NEEDS = {
  none: 'It needs no importer.',
  iommufd: "Its importer is the kernel's iommufd: CONFIG_IOMMUFD, CONFIG_VFIO_DEVICE_CDEV.",
  virtio_gpu: "Its importer is the kernel's virtio_gpu: CONFIG_DRM_VIRTIO_GPU, and a virtio GPU.",
  module: "Its importer is the module of the lab, since the kernel's own cannot show this.",
} as const;

export function addReproducerCommand(program: Command): void {
  declareCommand(program, 'reproducer')
    .argument('<scenario>', 'a scenario file, or the name of a built-in one (barter scenarios)')
    .option('-o, --output <file>', 'where the program goes; standard output without')
    .addHelpText(
      'after',
      `
The program needs libc and the kernel's headers alone. Its last line says what it saw; its status is 0 where all is as it
should be, 1 where the finding is there, and 2 where it cannot tell. Some programs do not come from a scenario, and are
asked for by name: ${namedPrograms().join(', ')}.

Examples:
  barter reproducer lab/findings/03-lent-in-low-power.yaml -o repro.c
  cc -static -o repro repro.c && barter lab exec --machine lab/diff/machine.yaml --kernel iommufd -- ./repro 0000:01:00.0`,
    )
    .action((name: string, { output }: { output?: string }) => write(name, output));
}

function write(name: string, output: string | undefined): void {
  try {
    const { text, importer } = namedReproducer(name) ?? reproducer(loadScenario(name).scenario, name);
    if (output === undefined) process.stdout.write(text);
    else writeFileSync(output, text);
    console.error(`barter: ${NEEDS[importer]}`);
  } catch (error) {
    if (error instanceof DocumentError || error instanceof ReproducerError) throw new UsageError(error.message);
    if (error instanceof Errno) throw new UsageError(error.message);
    const { code } = error as NodeJS.ErrnoException;
    if (code !== undefined && output !== undefined) throw new UsageError(`${output} cannot be written: ${code}`);
    throw error;
  }
}
