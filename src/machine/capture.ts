/** A machine file from a real device, as sysfs shows it: config space, and the sizes of its BARs. */
import { stringify } from 'yaml';
import { PCI_CFG_SPACE_SIZE } from '../abi/pci_regs.ts';
import type { SysfsPciDevice } from '../linux/sysfs.ts';
import { formatConfigText } from './config-text.ts';
import { sizeText } from './size-text.ts';

/**
 * The text of a machine with this one device below a root port. What is behind its BARs is not captured: served, they
 * are plain memory. BARs without a size (disabled by firmware) are left out.
 */
export function captureMachine(device: SysfsPciDevice): string {
  const { bdf, config, bars, romSizeBytes, driver } = device;
  const name = `pci-${bdf.replaceAll(':', '-')}`;
  const description = {
    machine: name,
    description: `captured from ${bdf}${driver === null ? '' : `, a device of ${driver}`}`,
    ports: [{ name: 'root', kind: 'root' }],
    devices: [
      {
        name,
        model: 'captured',
        port: 'root',
        config: formatConfigText(config),
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

function notes({ config }: SysfsPciDevice): string {
  if (config.length >= PCI_CFG_SPACE_SIZE) return '';
  return (
    `# Only ${config.length} bytes of config space could be read: its capabilities are missing. ` +
    'Capture again as root for all of them.\n'
  );
}
