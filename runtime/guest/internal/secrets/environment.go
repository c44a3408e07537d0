package secrets

import "strings"

// environmentEscapes are the characters that a backslash must precede between double quotes in an environment
// file (systemd.exec(5), EnvironmentFile=; SHELL_NEED_ESCAPE in systemd's env-file.c). A line feed stands as it is.
var environmentEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "`", "\\`")

// environmentLine renders one variable of an environment file.
func environmentLine(name, value string) string {
	return name + `="` + environmentEscapes.Replace(value) + "\"\n"
}
