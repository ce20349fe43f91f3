/** barter lab kconfig, build-module and patch: the user's own kernels and modules. */
import type { Command } from 'commander';
import { labPath } from '../../lab/host/cache.ts';
import { SOURCE } from '../../lab/kernel/kernel.ts';
import { findKernel } from '../../lab/kernel/kernels.ts';
import { buildModule } from '../../lab/kernel/module-build.ts';
import { kconfigFragment } from '../../lab/kernel/needs.ts';
import { buildPatched } from '../../lab/kernel/patch-build.ts';
import { readSeries } from '../../lab/kernel/series.ts';
import { seriesAsPatch } from '../../lab/kernel/series-diff.ts';
import { addKernelOptions, KERNEL_HELP, type KernelOptions, reported } from './lab-options.ts';
import { prepareMissing } from './lab-prepare.ts';
import { UsageError } from './usage.ts';

type Options = KernelOptions & { json?: true };

export function addKernelCommands(lab: Command): void {
  lab
    .command('kconfig')
    .description('print the options that a kernel must have for the lab')
    .addHelpText(
      'after',
      '\nExample:\n  barter lab kconfig > lab.config && scripts/kconfig/merge_config.sh .config lab.config',
    )
    .action(() => {
      process.stdout.write(kconfigFragment());
    });
  addBuildModuleCommand(lab);
  addPatchCommand(lab);
}

function addBuildModuleCommand(lab: Command): void {
  const command = lab
    .command('build-module')
    .argument('<dir>', 'a folder with a Kbuild or a Makefile that says obj-m := NAME.o')
    .description('build modules from outside of the tree, in their folder, against a kernel of the lab')
    .option('--json', 'print one JSON document');
  addKernelOptions(command)
    .addHelpText(
      'after',
      `${KERNEL_HELP}

Examples:
  barter lab build-module examples/driver
  barter lab build-module examples/driver --kernel debug`,
    )
    .action((folder: string, options: Options) =>
      reported(async () => {
        const kernel = findKernel(options.kernel, options.modules ?? null);
        await prepareMissing(kernel, options.json === true);
        const modules = await buildModule(labPath('build-module.log'), kernel, folder);
        if (options.json === true) console.log(JSON.stringify({ ok: true, kernel: kernel.name, modules }));
        else for (const module of modules) console.log(module);
      }),
    );
}

function addPatchCommand(lab: Command): void {
  lab
    .command('patch')
    .argument('<series>', 'an mbox, a folder of patches, or an edit such as lab/fixes/*.yaml')
    .description("apply a series to a copy of the lab's kernel source, and build a kernel of it")
    .option('--kernel <kernel>', 'what it goes on top of: iommufd or debug', 'iommufd')
    .option('--print', 'print the series as a patch against the source, and build no kernel')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
The build reuses what it built before: a change of one file takes a minute. The kernel is named after its base and its
series, such as iommufd+fix, and every command of the lab takes that name. The lab refuses it once the series or the
base has changed.

Examples:
  barter lab patch v2-series.mbox --kernel iommufd
  barter lab diff --kernel iommufd+v2-series
  barter lab patch lab/fixes/06-told-too-early.yaml
  barter lab patch lab/fixes/05-wakeup.yaml --print > 05.patch`,
    )
    .action((series: string, { kernel, json, print }: Options & { print?: true }) =>
      reported(async () => {
        if (kernel !== 'iommufd' && kernel !== 'debug') {
          throw new UsageError(`--kernel ${kernel} is not built from source by the lab: iommufd or debug`);
        }
        const changes = readSeries(series);
        await prepareMissing(findKernel(kernel), json === true);
        if (print === true) {
          process.stdout.write(seriesAsPatch(labPath('root', SOURCE), changes));
          return;
        }
        const name = await buildPatched(kernel, series, {
          onWait: (pid) => console.error(`Process ${pid} is preparing the lab; waiting for it ...`),
          onBuild: (changes) => {
            for (const { title } of changes) console.error(`applying: ${title}`);
          },
        });
        if (json === true) console.log(JSON.stringify({ ok: true, kernel: name }));
        else console.log(`The kernel is ready. Next: barter lab exec --kernel ${name} -- uname -r`);
      }),
    );
}
