#!/bin/bash
# Check that the installed kernel is configured as this image requires.
set -euo pipefail

root="${BUILDROOT:-}"
shopt -s nullglob
configs=("$root"/boot/config-* "$root"/usr/lib/modules/*/config)
if ((${#configs[@]} == 0)); then
    echo "kernel check: no kernel configuration under /boot: is a kernel package installed?" >&2
    exit 1
fi

# Each line: option, reason, required value ('m' is a module or built in, 'n' is off); separated by tabs.
requirements() {
    cat <<'END-OF-REQUIREMENTS'
CONFIG_BLK_DEV_DM	kernel feature 'dm-crypt': encrypted volumes are opened through it	m
CONFIG_BLK_DEV_INITRD	kernel feature 'boot': the UKI boots by it	y
CONFIG_CGROUPS	kernel feature 'boot': the UKI boots by it	y
CONFIG_CONFIGFS_FS	kernel feature 'tdx': the guest makes TDX quotes through it	m
CONFIG_CRYPTO_USER_API_SKCIPHER	kernel feature 'dm-crypt': encrypted volumes are opened through it	m
CONFIG_CRYPTO_XTS	kernel feature 'dm-crypt': encrypted volumes are opened through it	m
CONFIG_DEVTMPFS	kernel feature 'boot': the UKI boots by it	y
CONFIG_DM_CRYPT	kernel feature 'dm-crypt': encrypted volumes are opened through it	m
CONFIG_EFI	kernel feature 'boot': the UKI boots by it	y
CONFIG_EFI_STUB	kernel feature 'boot': the UKI boots by it	y
CONFIG_EXT4_FS	kernel feature 'fs-ext4': a partition has the file system ext4	m
CONFIG_HW_RANDOM_VIRTIO	kernel feature 'virtio': devices of QEMU and of clouds that follow it	m
CONFIG_INET	the recipe asks for it	y
CONFIG_INTEL_TDX_GUEST	kernel feature 'tdx': the guest makes TDX quotes through it	y
CONFIG_NFT_CT	kernel feature 'firewall': the firewall ruleset uses it	m
CONFIG_NFT_REJECT	kernel feature 'firewall': the firewall ruleset uses it	m
CONFIG_NFT_REJECT_INET	kernel feature 'firewall': the firewall ruleset uses it	m
CONFIG_NF_CONNTRACK	kernel feature 'firewall': the firewall ruleset uses it	m
CONFIG_NF_TABLES	kernel feature 'firewall': the firewall ruleset uses it	m
CONFIG_NF_TABLES_INET	kernel feature 'firewall': the firewall ruleset uses it	y
CONFIG_PROC_FS	kernel feature 'boot': the UKI boots by it	y
CONFIG_RANDOMIZE_BASE	kernel feature 'hardening': the image's defences rely on it	y
CONFIG_SCSI_VIRTIO	kernel feature 'virtio': devices of QEMU and of clouds that follow it	m
CONFIG_SECCOMP_FILTER	kernel feature 'hardening': the image's defences rely on it	y
CONFIG_SERIAL_8250_CONSOLE	kernel feature 'boot': the UKI boots by it	y
CONFIG_STACKPROTECTOR_STRONG	kernel feature 'hardening': the image's defences rely on it	y
CONFIG_STRICT_KERNEL_RWX	kernel feature 'hardening': the image's defences rely on it	y
CONFIG_STRICT_MODULE_RWX	kernel feature 'hardening': the image's defences rely on it	y
CONFIG_SYSFS	kernel feature 'boot': the UKI boots by it	y
CONFIG_TCG_CRB	kernel feature 'tpm': the virtual TPM of QEMU, Azure and Google	m
CONFIG_TCG_TIS	kernel feature 'tpm': the virtual TPM of QEMU, Azure and Google	m
CONFIG_TCG_TPM	kernel feature 'tpm': the virtual TPM of QEMU, Azure and Google	m
CONFIG_TDX_GUEST_DRIVER	kernel feature 'tdx': the guest makes TDX quotes through it	m
CONFIG_TMPFS	the recipe asks for it	y
CONFIG_TSM_REPORTS	kernel feature 'tdx': the guest makes TDX quotes through it	m
CONFIG_UNACCEPTED_MEMORY	kernel feature 'tdx': the guest makes TDX quotes through it	y
CONFIG_UNIX	the recipe asks for it	y
CONFIG_VIRTIO_BLK	kernel feature 'virtio': devices of QEMU and of clouds that follow it	m
CONFIG_VIRTIO_CONSOLE	kernel feature 'virtio': devices of QEMU and of clouds that follow it	m
CONFIG_VIRTIO_NET	kernel feature 'virtio': devices of QEMU and of clouds that follow it	m
CONFIG_VIRTIO_PCI	kernel feature 'virtio': devices of QEMU and of clouds that follow it	m
CONFIG_VIRTIO_VSOCKETS	kernel feature 'vsock': the recipe asks for vsock	m
CONFIG_VMAP_STACK	kernel feature 'hardening': the image's defences rely on it	y
CONFIG_VSOCKETS	kernel feature 'vsock': the recipe asks for vsock	m
CONFIG_X86_X2APIC	kernel feature 'tdx': the guest makes TDX quotes through it	y
END-OF-REQUIREMENTS
}

failed=0
for config in "${configs[@]}"; do
    declare -A found=()
    while IFS= read -r line; do
        case "$line" in
        CONFIG_*=*) found["${line%%=*}"]="${line#*=}" ;;
        esac
    done <"$config"
    while IFS=$'\t' read -r option reason wanted; do
        value="${found["$option"]:-n}"
        case "$wanted:$value" in
        "$wanted:$wanted" | m:y) ;;
        *)
            echo "kernel check: ${config#"$root"} has $option=$value, but $wanted is required: $reason" >&2
            failed=1
            ;;
        esac
    done < <(requirements)
done
exit "$failed"
