"""The long form of every code: what ``tdxc explain CODE`` prints and docs/diagnostics.md lists."""

from __future__ import annotations

from tdxc.diagnostics import Code

TEXTS: dict[Code, str] = {
    Code.E_RECIPE: (
        "The recipe could not be run to its end, or says something that makes no image: an exception was raised "
        "in it, a module that it imports is missing, it defines no image, or several of which none was chosen. "
        "The place is the innermost line of the recipe itself. Choose one of several images with "
        "'recipe.py:NAME'."
    ),
    Code.E_SYNTAX: (
        "Text does not follow its grammar: Python or YAML of the recipe, a firewall rule, a kernel .config "
        "fragment, a size, a command line of a unit, or an INI file of an override folder. The place is where the "
        "first thing stands that the grammar does not allow; a note says what could stand there."
    ),
    Code.E_ENCODING: (
        "A recipe or a text file is not UTF-8. The message gives the first offending byte; save the file as UTF-8."
    ),
    Code.E_KEY: (
        "A keyword argument or YAML key is unknown. Nothing is ever ignored: a misspelt 'hardening' would "
        "otherwise leave a service without its sandbox. The nearest known name is suggested."
    ),
    Code.E_TYPE: (
        "A value has the wrong type, such as a number where text belongs. Values are never converted silently: "
        "YAML reads 'no' and '1.10' as something other than text. Quote them where text is meant."
    ),
    Code.E_VALUE: ("A value has the right type but is not among those allowed; the message or the fix lists them."),
    Code.E_LIMIT: (
        "An input is larger or deeper than anything a person writes: a recipe above 8 MB, YAML whose anchors "
        "expand without bound, or nesting beyond 48 levels. The limits protect tools that run recipes of others."
    ),
    Code.E_PATH: (
        "A path is wrong: a destination that is not absolute and normalised, a source that does not exist, or one "
        "that leaves the recipe's folder. A recipe and its folder should be all that an image needs; say "
        "outside=True for a source elsewhere."
    ),
    Code.E_TEMPLATE: (
        "A jinja2 template cannot be rendered: a variable is undefined, or the template's syntax is wrong. "
        "Undefined variables are errors because an empty value in a configuration file is usually a hole."
    ),
    Code.E_REFERENCE: (
        "Something is named that does not exist: a user, group, boot step, unit or profile. Declare it, or "
        "correct the name."
    ),
    Code.E_CONFLICT: (
        "Two declarations want the same thing: one destination path, one service, user or boot-step name, one id. "
        "Both places are given. Remove one, or rename it."
    ),
    Code.E_CYCLE: (
        "Units or boot steps wait for each other in a circle, so none of them could start. The circle is printed "
        "with the recipe line of each dependency. systemd would break such a circle by dropping a job of its "
        "choice at boot."
    ),
    Code.E_MODULE: (
        "A module could not be applied: it is not found, has no apply(image), or its arguments do not fit."
    ),
    Code.E_SECRET: (
        "A secret flows to a place that others can read: a file of the image, a unit, an argument of a program, the "
        "kernel command line or a log. The notes name the lines that it came by. Secrets have targets instead: a file "
        "below /run, an environment variable of a service, or a credential of a service."
    ),
    Code.E_KCONFIG: (
        "Kernel options contradict each other, or the kernel that the image gets does not have an option that the "
        "image needs. Both places are given for a contradiction."
    ),
    Code.E_EMIT: (
        "The image is well-formed, but the target format cannot express it: a value that no quoting can carry "
        "into a unit or into mkosi.conf, a directive for an init system that has none, a profile that takes "
        "something away."
    ),
    Code.E_UNSUPPORTED: (
        "The declaration is understood and is not available in this version. It is refused rather than ignored, "
        "since an image without it would be less than the recipe promises."
    ),
    Code.E_OUTPUT: (
        "Output cannot be written: the folder exists and was not written by tdxc, the disk is full, or there is "
        "no permission. What was there is as it was."
    ),
    Code.E_TREE_MODIFIED: (
        "A file of the compiled tree was changed by hand since the last compile, and compiling would overwrite "
        "it. Move the change into the recipe or into a folder for --mkosi-override; --force discards it."
    ),
    Code.E_LOCKFILE: (
        "A frozen bake was asked for and the lockfile is missing, damaged, or was made for another recipe or "
        "other tools. Run img.lock() or 'tdxc lock', review the change, and bake again."
    ),
    Code.E_POLICY: (
        "The policy that the recipe sets with img.set_policy(Policy(...)) forbids this image or this way of "
        "baking it, or a profile's policy is looser than the image's. Change what the message names, or the policy; "
        "see docs/policy.md."
    ),
    Code.E_DEPLOYMENT: (
        "An artifact for a platform was asked for that the image does not make. Add the platform to "
        "output_targets(...) and bake again."
    ),
    Code.E_FIRMWARE: (
        "A firmware file cannot be used to predict registers: it has no TDVF metadata, its metadata is damaged or "
        "points outside of the file, or its version has unknown rules."
    ),
    Code.E_ARTIFACT: (
        "A file that should be an image is not one, or is damaged: no PE header, sections outside of the file or on "
        "top of each other, no partition table, or no UKI in it."
    ),
    Code.E_EVENTLOG: (
        "An event log is damaged or is not one. Logs come from the machine under test and are untrusted, so "
        "nothing behind the damage is believed."
    ),
    Code.E_QUOTE: (
        "A TD quote or report is damaged, of an unknown version, or its signature or certificates do not hold."
    ),
    Code.E_MEASUREMENT: (
        "A register cannot be computed: the image has not been baked yet, or a firmware or boot stub has unknown "
        "rules. Registers are never guessed. Bake first, then measure."
    ),
    Code.E_VERIFY: (
        "A log or quote does not match what was expected of it. The first event that differs is printed beside "
        "the expected one, with its likely cause."
    ),
    Code.E_BUILD: (
        "A source build failed: its packages cannot be installed together, its sources could not be fetched or "
        "verified, or its own compiler, test or script failed. The build and the last lines of its output are named, "
        "and where the whole log is. 'tdxc build RECIPE --debug-shell NAME' opens a shell in that build's environment, "
        "with its sources and dependencies in place and the network off."
    ),
    Code.E_BACKEND_UNAVAILABLE: (
        "A tool that is needed is missing or too old, or this machine does not allow what it needs (root or user "
        "namespaces, a reachable package mirror). 'tdxc doctor' checks all of it and prints the fixes."
    ),
    Code.E_BACKEND_EXECUTION: (
        "mkosi or another tool was run and failed. Its own error lines are shown, and the whole log is where the "
        "message says. No partial output was left."
    ),
    Code.E_INTERNAL: (
        "A fault of tdxc itself. Please report it together with the output of the same command under TDXC_DEBUG=1."
    ),
    Code.E_USAGE: (
        "The command line is wrong: a command or option that does not exist, an argument that is missing, or options "
        "that exclude each other. 'tdxc COMMAND --help' lists what there is. Without --format json the same is said "
        "as plain text, below the command's usage."
    ),
    Code.W_UNKNOWN_UNIT: (
        "A dependency names a unit that is neither in the image nor among those of systemd and Debian. systemd "
        "ignores an After= on a unit that does not exist, so an ordering that you rely on may be missing. The "
        "same is said of a unit that never starts, since the boot reaches none of the units that want it: leave "
        "wanted_by out, and the target that the image boots into wants it."
    ),
    Code.W_UNKNOWN_DIRECTIVE: (
        "A unit, a drop-in, extra_unit or overrides has a directive that systemd 257 does not know in that section. "
        "systemd ignores such a line, so what it should do is not done. Leave the warning alone where the image has "
        "a newer systemd that knows the name; names that begin with 'X-' are for other programs and always fine."
    ),
    Code.W_BOOT_ORDER: (
        "The recipe starts a service of a package that does not wait for the image's disks or secrets, as services of "
        "the image do by themselves: it may write into the folder below a disk that is not mounted yet, or miss a "
        "secret. The drop-in of the fix lets it wait. Leave the warning alone for a service that uses neither."
    ),
    Code.W_MEASUREMENT: (
        "The recipe gives up something that keeps registers predictable, such as the pinned boot stub or "
        "'console=' on the command line, or has a boot stub that does not suit ukify. The message says what suffers, "
        "and how."
    ),
    Code.W_FIRMWARE: (
        "A firmware file can be parsed but would not work as it is meant to; the message says how one can tell."
    ),
    Code.W_MUTABLE_REF: (
        "Something is referred to by a name whose content can change: a mirror without a snapshot, a repository, "
        "a branch. Two bakes at two times can differ. mutable_ref_policy decides whether that is an error."
    ),
    Code.W_UNMEASURED: (
        "Part of what the image runs is covered by no register, such as a writable root partition: whoever "
        "controls the host can change it without a verifier noticing."
    ),
    Code.W_DEVELOPMENT: (
        "The image has something that belongs in development only, such as an SSH server. Keep it in a profile."
    ),
    Code.W_OVERRIDE: (
        "An override folder changes a setting that a guarantee rests on; 'tdxc explain overrides' lists all of them."
    ),
    Code.W_CACHE: (
        "A result in the cache of source builds was not what had been stored, so it was removed and the build was made "
        "again, or a new result could not be stored. The image is right; the disk or whatever wrote to the cache may "
        "not be."
    ),
}
"""One entry per code; a test holds the two together."""
