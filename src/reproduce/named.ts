/** Programs for findings whose importer is a driver that scenarios do not have. */
import { program, type Reproducer } from './program.ts';

const GPU_THAT_IS_GONE = {
  scenario: 'gpu-that-is-gone',
  description:
    'A revoke waits for the answer of a virtio GPU that its driver has given up, and never returns. It holds the ' +
    "lender's memory_lock for write meanwhile.",
  breaks: 'I7',
} as const;

const NAMED: Readonly<Record<string, () => Reproducer>> = {
  'gpu-that-is-gone': () => ({
    importer: 'virtio_gpu',
    text: program(GPU_THAT_IS_GONE, 'gpu-that-is-gone', {
      devices: ['lender', 'gpu'],
      parts: ['runtime', 'group', 'gpu'],
      calls: [
        check(1, 'open device=lender', 'open_device(&device_lender, NULL)', 'null'),
        check(2, 'memory device=lender on=true', 'memory(&device_lender, 1)', 'null'),
        check(
          3,
          'export device=lender region=0 ranges=[[0,4096]] as=buffer',
          'export_buffer(&device_lender, 0, (struct range[]){ { 0, 4096 } }, 1, "buffer")',
          'null',
        ),
        check(4, 'import fd=buffer device=gpu', 'prime_import(&device_gpu, "buffer")', 'null'),
        check(5, 'unbind device=gpu', 'unbind_driver(&device_gpu)', 'null'),
        check(6, 'memory device=lender on=false', 'memory_in_time(&device_lender, 0, 20)', 'null', 'never returns'),
      ],
    }),
  }),
};

export const namedPrograms = (): string[] => Object.keys(NAMED);

/** Null for an unknown name. */
export function namedReproducer(name: string): Reproducer | null {
  return Object.hasOwn(NAMED, name) ? NAMED[name]() : null;
}

function check(number: number, step: string, call: string, right: string, known?: string): string {
  const seen = known === undefined ? 'NULL' : `"${known}"`;
  return `\tcheck(${number}, "${step}", ${call},\n\t      "${right}", ${seen});`;
}
