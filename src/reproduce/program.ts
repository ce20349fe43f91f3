/** A scenario as one program in C, which needs only libc and the kernel's headers. */
import { readFileSync } from 'node:fs';
import { packageFile } from '../linux/package-file.ts';
import { groupOf, type Scenario, type Step, type StepOf } from '../scenario/step.ts';
import { ReproducerError, type StepContext, stepCall } from './steps.ts';

/** The importer that maps the buffers: none, the kernel's iommufd or virtio_gpu, or the lab's module. */
export type ReproducerImporter = StepContext['importer'] | 'virtio_gpu';

type About = Pick<Scenario, 'scenario' | 'description' | 'breaks'>;

export interface Reproducer {
  text: string;
  importer: ReproducerImporter;
}

/** Throws a ReproducerError where a step has no counterpart in C. */
export function reproducer(scenario: Scenario, name: string): Reproducer {
  const names = Object.keys(scenario.tasks);
  if (names.length !== 1) throw new ReproducerError(`${name} has ${names.length} tasks: a program has one`);
  const steps = [...(scenario.setup ?? []), ...scenario.tasks[names[0]]];
  const importer = importerFor(steps);
  const devices = devicesOf(steps, importer);
  const parts = ['runtime'];
  const isSysfs = (step: Step): boolean =>
    groupOf(step) === 'sysfs' || (step.op === 'start' && groupOf(step.step) === 'sysfs');
  if (steps.some(isSysfs)) parts.push('sysfs');
  if (steps.some(({ op }) => op === 'start')) parts.push('beside');
  if (steps.some(({ op }) => op === 'hold-fd')) parts.push('holds');
  parts.push(importer === 'iommufd' ? 'iommufd' : 'group');
  if (importer === 'module') parts.push('module');
  const calls = steps.map((step, i) => stepCall(step, i + 1, { importer, variable }));
  return { importer, text: program(scenario, name, { devices, parts, calls }) };
}

/** The program of some calls, with the parts of the runtime that they need. */
export function program(
  about: About,
  name: string,
  { devices, parts, calls }: { devices: readonly string[]; parts: readonly string[]; calls: readonly string[] },
): string {
  const runtime = parts.map((part) => readFileSync(packageFile(`src/reproduce/${part}.c`), 'utf8')).join('');
  return `${header(about, name, devices)}\n${runtime}\n${main(calls, devices)}`;
}

/**
 * iommufd maps only one range and does not show callbacks. Steps that need callbacks, several ranges or a DMA mask need
 * the module.
 */
function importerFor(steps: readonly Step[]): StepContext['importer'] {
  const attachments = steps.filter((step): step is StepOf<'attach'> => step.op === 'attach');
  if (attachments.length === 0) return 'none';
  const isPlain = attachments.every(
    ({ kind = 'dynamic', onInvalidate = 'unmap', dmaBits }) =>
      kind === 'dynamic' && onInvalidate === 'unmap' && dmaBits === undefined,
  );
  const oneRange = steps.every((step) => step.op !== 'export' || step.ranges.length === 1);
  const byToken = steps.some((step) => step.op === 'open' && step.vfToken !== undefined);
  const isSeen = steps.some((step) => step.linux !== undefined && step.op !== 'callbacks');
  return isPlain && oneRange && !byToken && isSeen ? 'iommufd' : 'module';
}

/** The devices that the steps open, and those that an importer of the module maps for. */
function devicesOf(steps: readonly Step[], importer: ReproducerImporter): string[] {
  const named = steps.flatMap((step) => {
    if (!('device' in step)) return [];
    return step.op === 'attach' && importer === 'iommufd' ? [] : [step.device];
  });
  return [...new Set(named)];
}

function header({ scenario, description, breaks }: About, name: string, devices: readonly string[]): string {
  const words = `${description.trim()}${breaks === undefined ? '' : ` (${breaks})`}`;
  const usage = `./repro ${devices.map((device) => `ADDRESS-OF-${device.toUpperCase()}`).join(' ')}`;
  return `// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * ${scenario}: ${wrap(words)}
 *
 * Written by barter reproducer of ${name}.
 *
 *	cc -Wall -Wextra -o repro repro.c
 *	${usage}
 *
 * The devices that are opened are bound to vfio-pci. The last line says what was seen; the status is 0 where all is as
 * it should be, 1 where the finding is there, and 2 where this run cannot tell.
 */`;
}

function wrap(text: string): string {
  return text.replaceAll(/(.{60,100}) /g, '$1\n * ');
}

function main(calls: readonly string[], devices: readonly string[]): string {
  const variables = devices.map((device) => `static struct device ${variable(device)} = { .name = "${device}" };`);
  const argument = (device: string, i: number): string => `\t${variable(device)}.bdf = argv[${i + 1}];`;
  const usage = devices.map((device) => ` ADDRESS-OF-${device.toUpperCase()}`).join('');
  return `${variables.join('\n')}

int main(int argc, char **argv)
{
	if (argc != ${devices.length + 1}) {
		fprintf(stderr, "usage: %s${usage}\\n", argv[0]);
		return 2;
	}
${devices.map(argument).join('\n')}
	watch_kernel_log();
${calls.join('\n')}
	return verdict();
}
`;
}

function variable(device: string): string {
  return `device_${device.replaceAll(/\W/g, '_')}`;
}
