/** Which tests of the suite apply to a server other than the library's, and where Barter differs on purpose. */

/** A reason, with the tests that it holds for. `test_x.*` stands for all tests of a file. */
interface Entry {
  reason: string;
  tests: readonly string[];
}

const API = 'it checks what a function of the C library returns, and no message';
const QUIESCE =
  "the library asks a device to pause for each DMA_MAP, DMA_UNMAP and end of a client; Barter's devices run on, and " +
  'DMA_UNMAP waits for their accesses instead';
const V1 = 'DIRTY_PAGES and the migration region left the protocol; DEVICE_FEATURE and MIG_DATA took their place';
const AREAS = 'Barter maps whole BARs, or all around an MSI-X table; it has no areas of a choice';

export const NOT_PORTABLE: readonly Entry[] = [
  {
    reason: API,
    tests: [
      'test_device_get_region_io_fds.test_device_get_region_io_fds_ioeventfd_invalid_size',
      'test_irq_trigger.test_irq_trigger_bad_subindex',
      'test_irq_trigger.test_irq_trigger_no_interrupt',
      'test_pci_caps.test_pci_cap_bad_flags',
      'test_pci_caps.test_pci_cap_no_cb',
      'test_pci_caps.test_pci_cap_unknown_cap',
      'test_pci_caps.test_pci_cap_bad_pos',
      'test_pci_ext_caps.test_pci_ext_cap_conventional',
      'test_pci_ext_caps.test_pci_ext_cap_unknown_cap',
      'test_pci_ext_caps.test_pci_ext_cap_bad_pos',
      'test_quiesce.test_device_quiesced_no_quiesce_requested',
      'test_setup_region.test_setup_region_bad_flags',
      'test_setup_region.test_setup_region_bad_mmap_areas',
      'test_setup_region.test_setup_region_bad_index',
      'test_setup_region.test_setup_region_bad_pci',
      'test_setup_region.test_setup_region_bad_migr',
      'test_setup_region.test_setup_region_cfg_always_cb_nocb',
      'test_sgl_get_put.test_dma_sg_size',
      'test_vfu_create_ctx.test_vfu_create_ctx_bad_trans',
      'test_vfu_create_ctx.test_vfu_create_ctx_bad_flags',
      'test_vfu_create_ctx.test_vfu_create_ctx_bad_dev_type',
      'test_vfu_realize_ctx.test_vfu_unrealized_ctx',
    ],
  },
  {
    reason: QUIESCE,
    tests: [
      'test_dma_map.test_dma_map_busy',
      'test_dma_map.test_dma_map_reply_fail',
      'test_dma_map.test_dma_map_busy_reply_fail',
      'test_dma_unmap.test_dma_unmap_async',
      'test_quiesce.test_device_quiesce_error',
      'test_quiesce.test_device_quiesce_error_after_busy',
      'test_quiesce.test_allowed_funcs_in_quiesced_dma_register_busy',
      'test_quiesce.test_allowed_funcs_in_quiesced_dma_unregister_busy',
      'test_request_errors.test_disconnected_socket',
      'test_request_errors.test_disconnected_socket_quiesce_busy',
    ],
  },
  {
    reason: V1,
    tests: [
      'test_dirty_pages.*',
      'test_migration.*',
      'test_device_get_region_info.test_device_get_region_info_migr',
      'test_device_get_region_info_zero_size.test_device_get_region_info_zero_sized_region',
      'test_dma_unmap.test_dma_unmap_dirty_not_mapped',
      'test_quiesce.test_allowed_funcs_in_quiesed_migration',
      'test_quiesce.test_allowed_funcs_in_quiesed_migration_busy',
      'test_request_errors.test_reply_fail_quiesce_busy',
    ],
  },
  {
    reason: AREAS,
    tests: [
      'test_device_get_region_info.test_device_get_region_info_caps_too_few_fds',
      'test_device_get_region_info.test_device_get_region_info_small_argsz_caps',
      'test_device_get_region_info.test_device_get_region_info_caps',
    ],
  },
  {
    reason: "a function of the test answers for config space; Barter's registers cannot be replaced",
    tests: ['test_setup_region.test_setup_region_cfg_always_cb'],
  },
  {
    reason: 'the test gives one eventfd to two entries; each doorbell of Barter has its own',
    tests: ['test_device_get_region_io_fds.test_device_get_region_io_fds_fds_read_write_dupe_fd'],
  },
  {
    reason: "it checks the library's own limits of 16 regions and 8 TiB",
    tests: ['test_dma_map.test_dma_region_too_big', 'test_dma_map.test_dma_region_too_many'],
  },
];

/** Tests that fail where Barter follows vfio-pci of Linux, or its own rule, on purpose. */
export const DIFFERENCES: readonly Entry[] = [
  {
    reason: 'the flags say NORESIZE for every index but MSI-X, as on Linux',
    tests: ['test_device_get_irq_info.test_device_get_irq_info'],
  },
  {
    reason: 'only INTx can be masked, and others are ENOTTY, as on Linux; the library masks them, or says EINVAL',
    tests: [
      'test_device_set_irqs.test_device_set_irqs_bad_action_for_err_irq',
      'test_device_set_irqs.test_device_set_irqs_bad_action_for_req_irq',
      'test_device_set_irqs.test_device_set_irqs_bad_start_for_count_0',
      'test_device_set_irqs.test_device_set_irqs_bad_action_for_count_0',
      'test_device_set_irqs.test_irq_state',
    ],
  },
  {
    reason: 'REQ that has no eventfd cannot be switched off: EINVAL, as on Linux',
    tests: ['test_device_set_irqs.test_device_set_irqs_disable'],
  },
  {
    reason: 'argsz may be larger than the data, as on Linux',
    tests: ['test_device_set_irqs.test_device_set_irqs_trigger_bool_too_large'],
  },
  {
    reason: 'argsz has room for the struct and 1 MiB of data; the library counts the struct in the 1 MiB',
    tests: ['test_dma_unmap.test_dma_unmap_bad_argsz2'],
  },
  {
    reason:
      'a message may have 1 MiB and 64 bytes, and the server waits for the rest of this one; the library takes 32',
    tests: ['test_negotiate.test_long_write', 'test_request_errors.test_too_large'],
  },
  {
    reason: 'a first command other than VERSION is EPROTO, and ends the connection',
    tests: ['test_negotiate.test_bad_command'],
  },
  {
    reason: "the text has no upper bound of max_msg_fds; the library's is 1024",
    tests: ['test_negotiate.test_invalid_json_bad_max_fds3'],
  },
  {
    reason: 'a write does not change read-only bits of config space, and succeeds, as on Linux; the library says EPERM',
    tests: [
      'test_pci_caps.test_add_caps',
      'test_pci_ext_caps.test_pci_ext_cap_write_hdr',
      'test_pci_ext_caps.test_pci_ext_cap_readonly',
      'test_pci_ext_caps.test_pci_ext_cap_write_dsn',
    ],
  },
  {
    reason: 'an FLR by config space ends the DMA of the device; the library asks the device to pause first',
    tests: ['test_pci_caps.test_pci_cap_write_px'],
  },
  {
    reason: 'SET_IRQS enables MSI-X; writes of its Message Control do not, as on Linux',
    tests: ['test_pci_caps.test_pci_cap_write_msix'],
  },
  {
    reason: 'bits of DEVCTL2 that are reserved stay 0, and LNKCTL2 is read-only, as on Linux',
    tests: ['test_pci_caps.test_pci_cap_write_pxdc2', 'test_pci_caps.test_pci_cap_write_pxlc2'],
  },
  {
    reason: 'a message shorter than its header, or a reply that nobody asked for, ends the connection',
    tests: ['test_request_errors.test_too_small', 'test_request_errors.test_unsolicited_reply'],
  },
  {
    reason: 'a command that is not there is ENOSYS',
    tests: ['test_request_errors.test_bad_command'],
  },
  {
    reason: 'an offset from 2^53 on is EOVERFLOW',
    tests: ['test_setup_region.test_region_offset_overflow'],
  },
  {
    reason: 'the base address registers hold the addresses that the fabric assigned',
    tests: ['test_vfu_realize_ctx.test_vfu_realize_ctx_pci_bars'],
  },
];

/** Constants of the suite that are a matter of the server, or of the protocol's age. */
const CONSTANTS: Readonly<Record<string, number>> = {
  // QEMU refuses every minor version but 0.
  LIBVFIO_USER_MINOR: 0,
  SERVER_MAX_FDS: 16,
  // Without the migration region of v1.
  VFU_PCI_DEV_NUM_REGIONS: 9,
  // The first command that is not there. In the suite it is 15, which is REGION_WRITE_MULTI by now.
  VFIO_USER_MAX: 19,
};

const PCI_CAP_ID_EXP = 0x10;
const PCI_CAP_ID_MSIX = 0x11;

/** Capabilities that a test adds after the client came. A Barter device has them from the start. */
const EARLY: Readonly<Record<string, readonly number[]>> = {
  'test_pci_caps.test_pci_cap_write_px': [PCI_CAP_ID_EXP],
  'test_pci_caps.test_pci_cap_write_msix': [PCI_CAP_ID_MSIX],
  'test_pci_caps.test_pci_cap_write_pxdc2': [PCI_CAP_ID_EXP],
  'test_pci_caps.test_pci_cap_write_pxlc2': [PCI_CAP_ID_EXP],
};

/** How the suite is run. */
export interface Plan {
  constants: Readonly<Record<string, number>>;
  early: Readonly<Record<string, readonly number[]>>;
  /** Why a test is not run; null for a test that is. */
  notPortable(name: string): string | null;
  /** Why a test that fails should fail; null for all others. */
  difference(name: string): string | null;
}

function find(entries: readonly Entry[], name: string): string | null {
  const whole = `${name.split('.')[0]}.*`;
  return entries.find(({ tests }) => tests.includes(name) || tests.includes(whole))?.reason ?? null;
}

export const PLAN: Plan = {
  constants: CONSTANTS,
  early: EARLY,
  notPortable: (name) => find(NOT_PORTABLE, name),
  difference: (name) => find(DIFFERENCES, name),
};
