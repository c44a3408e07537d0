"""The lockfile: what a bake was locked to, and the refusal to bake anything else."""

from tdxc.lock.model import LOCK_VERSION as LOCK_VERSION
from tdxc.lock.model import LockFile as LockFile
from tdxc.lock.model import check_lock as check_lock
from tdxc.lock.model import parse_lock as parse_lock
from tdxc.lock.model import render_lock as render_lock
