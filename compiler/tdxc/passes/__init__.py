"""The passes, in the order in which they run. The order is what you read; there is no registry and no priority.

Passes over the authored image see every profile; passes over the resolved image see one variant (base, or base with
profiles) at a time.
"""

from tdxc.ir import AuthoredImage, ResolvedImage
from tdxc.passes.assign_ids import AssignIds
from tdxc.passes.base import Pass
from tdxc.passes.debloat import DebloatImage
from tdxc.passes.expand_modules import ExpandModules
from tdxc.passes.harden_services import HardenServices
from tdxc.passes.init_priority import InitPriority
from tdxc.passes.lower_builds import LowerBuilds
from tdxc.passes.lower_development import LowerDevelopment
from tdxc.passes.lower_guest import LowerGuest
from tdxc.passes.lower_network import LowerNetwork
from tdxc.passes.lower_ssh import LowerSsh
from tdxc.passes.lower_storage import LowerStorage
from tdxc.passes.lower_users import LowerUsers
from tdxc.passes.order_units import OrderUnits
from tdxc.passes.render_templates import RenderTemplates
from tdxc.passes.reproducibility import MakeReproducible
from tdxc.passes.resolve_kernel import ResolveKernel
from tdxc.passes.validate import Validate

AUTHORED_PASSES: tuple[Pass[AuthoredImage], ...] = (
    ExpandModules(),  # first, so that everything behind it sees what modules declare as if the recipe had said it
    Validate(),  # before anything is derived: a fault is reported once, at its own line
    RenderTemplates(),  # templates become files
    AssignIds(),  # over all profiles at once, so that two profiles never give one id to two users
)

RESOLVED_PASSES: tuple[Pass[ResolvedImage], ...] = (
    LowerBuilds(),  # independent of all others; what it installs is kept by debloat
    ResolveKernel(),  # decides the command line, which the passes behind it read
    LowerDevelopment(),  # adds words to the command line that resolve-kernel has made
    LowerGuest(),  # opens the port of a delivery, so it stands before the firewall is made
    LowerNetwork(),  # adds units and files
    LowerStorage(),
    LowerSsh(),  # adds a service, so it stands before everything that looks at all services
    LowerUsers(),  # after the last pass that adds users
    InitPriority(),  # adds runtime-init and makes every service wait for it
    HardenServices(),  # after the last pass that adds services
    OrderUnits(),  # sees every dependency, including the injected ones
    DebloatImage(),  # keeps what all of the above uses
    MakeReproducible(),  # last: fixes what the others left open
)
