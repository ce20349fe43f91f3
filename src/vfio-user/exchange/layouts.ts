/** The layout of every message of the two protocols as data, for code that shows messages. */
import { type Fields, packedStruct, type Struct } from '../../abi/layout.ts';
import {
  vfio_irq_info,
  vfio_irq_set,
  vfio_pci_hot_reset,
  vfio_pci_hot_reset_info,
  vfio_region_info,
} from '../../abi/vfio.ts';
import * as feature from '../../abi/vfio-feature.ts';
import * as abi from '../../abi/vfio-user.ts';
import {
  ADD_FENCE,
  ATTACH,
  DETACH,
  INVALIDATE,
  MAP,
  OPEN,
  QUERY,
  RESTORE,
  SET_NAME,
  SIGNAL_FENCE,
  UNMAP,
  WAIT,
} from '../dma-buf/messages.ts';
import type { SocketKind } from '../wire/tap.ts';

export type AnyStruct = Struct<Fields>;

/** What follows the struct of a payload: nothing that is shown, bytes, or text. */
export type Rest = 'nothing' | 'bytes' | 'text';

/** `request` and `reply` begin the payloads of a command and of a reply without an error. */
export interface MessageLayout {
  readonly name: string;
  readonly request: AnyStruct;
  readonly reply: AnyStruct;
  readonly rest: Rest;
}

const nothing = packedStruct('nothing', 0, {});

function layout(name: string, request: object, reply: object = request, rest: Rest = 'nothing'): MessageLayout {
  return { name, request: request as AnyStruct, reply: reply as AnyStruct, rest };
}

const VFIO_USER: ReadonlyMap<number, MessageLayout> = new Map(
  (
    [
      [abi.VFIO_USER_VERSION, abi.vfio_user_version, abi.vfio_user_version, 'text'],
      [abi.VFIO_USER_DMA_MAP, abi.vfio_user_dma_map, nothing, 'nothing'],
      [abi.VFIO_USER_DMA_UNMAP, abi.vfio_user_dma_unmap, abi.vfio_user_dma_unmap, 'nothing'],
      [abi.VFIO_USER_DEVICE_GET_INFO, abi.vfio_user_device_info, abi.vfio_user_device_info, 'nothing'],
      [abi.VFIO_USER_DEVICE_GET_REGION_INFO, vfio_region_info, vfio_region_info, 'bytes'],
      [abi.VFIO_USER_DEVICE_GET_REGION_IO_FDS, abi.vfio_user_region_io_fds, abi.vfio_user_region_io_fds, 'bytes'],
      [abi.VFIO_USER_DEVICE_GET_IRQ_INFO, vfio_irq_info, vfio_irq_info, 'nothing'],
      [abi.VFIO_USER_DEVICE_SET_IRQS, vfio_irq_set, nothing, 'bytes'],
      [abi.VFIO_USER_REGION_READ, abi.vfio_user_region_access, abi.vfio_user_region_access, 'bytes'],
      [abi.VFIO_USER_REGION_WRITE, abi.vfio_user_region_access, abi.vfio_user_region_access, 'bytes'],
      [abi.VFIO_USER_DMA_READ, abi.vfio_user_dma_region_access, abi.vfio_user_dma_region_access, 'bytes'],
      [abi.VFIO_USER_DMA_WRITE, abi.vfio_user_dma_region_access, abi.vfio_user_dma_region_access, 'bytes'],
      [abi.VFIO_USER_DEVICE_RESET, nothing, nothing, 'nothing'],
      [abi.VFIO_USER_REGION_WRITE_MULTI, abi.vfio_user_region_write_multi, abi.vfio_user_region_write_multi, 'bytes'],
      [abi.VFIO_USER_DEVICE_FEATURE, feature.vfio_device_feature, feature.vfio_device_feature, 'bytes'],
      [abi.VFIO_USER_MIG_DATA_READ, abi.vfio_user_mig_data, abi.vfio_user_mig_data, 'bytes'],
      [abi.VFIO_USER_MIG_DATA_WRITE, abi.vfio_user_mig_data, abi.vfio_user_mig_data, 'bytes'],
      [abi.VFIO_USER_X_GET_PCI_HOT_RESET_INFO, vfio_pci_hot_reset_info, vfio_pci_hot_reset_info, 'bytes'],
      [abi.VFIO_USER_X_PCI_HOT_RESET, vfio_pci_hot_reset, vfio_pci_hot_reset, 'bytes'],
    ] as const
  ).map(([command, request, reply, rest]) => [command, layout(nameOf(command), request, reply, rest)]),
);

function nameOf(command: number): string {
  if (command === abi.VFIO_USER_X_GET_PCI_HOT_RESET_INFO) return 'X_GET_PCI_HOT_RESET_INFO';
  if (command === abi.VFIO_USER_X_PCI_HOT_RESET) return 'X_PCI_HOT_RESET';
  return abi.VFIO_USER_COMMAND_NAMES.get(command)!;
}

const DMA_BUF: ReadonlyMap<number, MessageLayout> = new Map(
  [OPEN, QUERY, SET_NAME, ATTACH, DETACH, MAP, UNMAP, INVALIDATE, RESTORE, ADD_FENCE, SIGNAL_FENCE, WAIT].map(
    ({ command, name, request, reply }) => [
      command,
      layout(name, request, reply, command === MAP.command ? 'bytes' : 'nothing'),
    ],
  ),
);

/** The commands of a socket, by their numbers. */
export function layoutsOf(kind: SocketKind): ReadonlyMap<number, MessageLayout> {
  return kind === 'dma-buf' ? DMA_BUF : VFIO_USER;
}

/**
 * The payload of a DEVICE_FEATURE after its header, by the feature's number. Where Linux has a pointer (DMA_LOGGING_START
 * and DMA_LOGGING_REPORT), the message has the data inline.
 */
export const FEATURES: ReadonlyMap<number, { name: string; payload: AnyStruct }> = new Map(
  (
    [
      [feature.VFIO_DEVICE_FEATURE_PCI_VF_TOKEN, 'PCI_VF_TOKEN', feature.vf_token],
      [feature.VFIO_DEVICE_FEATURE_MIGRATION, 'MIGRATION', feature.vfio_device_feature_migration],
      [feature.VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, 'MIG_DEVICE_STATE', feature.vfio_device_feature_mig_state],
      [feature.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY, 'LOW_POWER_ENTRY', nothing],
      [
        feature.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP,
        'LOW_POWER_ENTRY_WITH_WAKEUP',
        feature.vfio_device_low_power_entry_with_wakeup,
      ],
      [feature.VFIO_DEVICE_FEATURE_LOW_POWER_EXIT, 'LOW_POWER_EXIT', nothing],
      [
        feature.VFIO_DEVICE_FEATURE_DMA_LOGGING_START,
        'DMA_LOGGING_START',
        abi.vfio_user_device_feature_dma_logging_control,
      ],
      [feature.VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, 'DMA_LOGGING_STOP', nothing],
      [
        feature.VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT,
        'DMA_LOGGING_REPORT',
        abi.vfio_user_device_feature_dma_logging_report,
      ],
      [feature.VFIO_DEVICE_FEATURE_MIG_DATA_SIZE, 'MIG_DATA_SIZE', feature.vfio_device_feature_mig_data_size],
      [feature.VFIO_DEVICE_FEATURE_BUS_MASTER, 'BUS_MASTER', feature.vfio_device_feature_bus_master],
      [feature.VFIO_DEVICE_FEATURE_DMA_BUF, 'DMA_BUF', feature.vfio_device_feature_dma_buf],
      [feature.VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2, 'MIG_PRECOPY_INFOv2', nothing],
    ] as const
  ).map(([number, name, payload]) => [number, { name, payload: payload as unknown as AnyStruct }]),
);
