/* A device with one BAR of memory, served by libvfio-user's library: libvfio-user-server PATH */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "libvfio-user.h"

static char memory[1 << 20];

static ssize_t access_bar(vfu_ctx_t *context, char *buffer, size_t count, loff_t offset, bool is_write) {
    (void)context;
    if (offset < 0 || (size_t)offset + count > sizeof memory) return -1;
    if (is_write) memcpy(memory + offset, buffer, count);
    else memcpy(buffer, memory + offset, count);
    return count;
}

static void check(int result, const char *what) {
    if (result < 0) { perror(what); exit(1); }
}

int main(int argc, char **argv) {
    if (argc != 2) { fprintf(stderr, "usage: libvfio-user-server PATH\n"); return 2; }
    vfu_ctx_t *context = vfu_create_ctx(VFU_TRANS_SOCK, argv[1], 0, NULL, VFU_DEV_TYPE_PCI);
    if (context == NULL) { perror("vfu_create_ctx"); return 1; }
    check(vfu_pci_init(context, VFU_PCI_TYPE_CONVENTIONAL, PCI_HEADER_TYPE_NORMAL, 0), "vfu_pci_init");
    vfu_pci_set_id(context, 0x1b36, 0x0b01, 0, 0);
    int flags = VFU_REGION_FLAG_RW | VFU_REGION_FLAG_MEM;
    int bar = VFU_PCI_DEV_BAR0_REGION_IDX;
    check(vfu_setup_region(context, bar, sizeof memory, access_bar, flags, NULL, 0, -1, 0), "vfu_setup_region");
    check(vfu_realize_ctx(context), "vfu_realize_ctx");
    puts("ready");
    fflush(stdout);
    check(vfu_attach_ctx(context), "vfu_attach_ctx");
    while (vfu_run_ctx(context) >= 0) { }
    vfu_destroy_ctx(context);
    return 0;
}
