"""The mkosi tree: settings, scripts, package sources, the root file system's files, and profiles as layers."""

from tdxc_emitters.mkosi.delta import delta as delta
from tdxc_emitters.mkosi.emitter import emit_tree as emit_tree
from tdxc_emitters.mkosi.emitter import make_project as make_project
from tdxc_emitters.mkosi.project import MkosiProject as MkosiProject
from tdxc_emitters.mkosi.render import render_project as render_project
