"""Kernel configuration: the merged requirements, the fragments they come from, and the script that checks them."""

from tdxc_emitters.kconfig.check import check_script as check_script
from tdxc_emitters.kconfig.emitter import KconfigEmitter as KconfigEmitter
