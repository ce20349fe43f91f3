/** A machine file from a real device, as sysfs shows it: config space, and the sizes of its BARs. */
import { stringify } from 'yaml';
import { PCI_CFG_SPACE_SIZE } from '../abi/pci_regs.ts';
import type { SysfsPciDevice } from '../linux/sysfs.ts';
import { sizeText } from './size-text.ts';

const LINE_BYTES = 16;

/**
 * The text of a machine with this one device below a root port. What is behind its BARs is not captured: served, they
 * are plain memory. BARs without a size (disabled by firmware) are left out.
 */
export function captureMachine(device: SysfsPciDevice): string {
  const { bdf, config, bars, romSizeBytes, driver } = device;
  const name = `pci-${bdf.replaceAll(':', '-')}`;
  const hex = Buffer.from(config).toString('hex').toUpperCase();
  const lines = hex.match(new RegExp(`.{1,${2 * LINE_BYTES}}`, 'g')) ?? [];
  const description = {
    machine: name,
    description: `captured from ${bdf}${driver === null ? '' : `, a device of ${driver}`}`,
    ports: [{ name: 'root', kind: 'root' }],
    devices: [
      {
        name,
        model: 'captured',
        port: 'root',
        config: `${lines.map(spaced).join('\n')}\n`,
        bars: bars.map(({ index, kind, prefetchable, sizeBytes }) => ({
          index,
          kind,
          prefetchable,
          size: sizeText(sizeBytes),
        })),
        ...(romSizeBytes > 0 ? { romSize: sizeText(romSizeBytes) } : {}),
      },
    ],
  };
  const text = stringify(description, { lineWidth: 0, defaultStringType: 'PLAIN' });
  return `${notes(device)}${text}`;
}

function spaced(line: string): string {
  return line.replace(/../g, '$& ').trimEnd();
}

function notes({ config }: SysfsPciDevice): string {
  if (config.length >= PCI_CFG_SPACE_SIZE) return '';
  return (
    `# Only ${config.length} bytes of config space could be read: its capabilities are missing. ` +
    'Capture again as root for all of them.\n'
  );
}
