// Hello-go greets whomever its configuration names, from the kernel that it runs on.
package main

import (
	_ "embed"
	"fmt"
	"os"
	"runtime"

	"github.com/pelletier/go-toml/v2"
	"golang.org/x/sys/unix"
)

//go:embed hello.toml
var defaults []byte

type configuration struct {
	Greeting string
	Name     string
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "hello-go:", err)
		os.Exit(1)
	}
}

// run prints the greeting; a first argument names a configuration file to use on top of the built-in one.
func run(arguments []string) error {
	var config configuration
	if err := toml.Unmarshal(defaults, &config); err != nil {
		return fmt.Errorf("built-in configuration: %w", err)
	}
	if len(arguments) > 0 {
		text, err := os.ReadFile(arguments[0])
		if err != nil {
			return err
		}
		if err := toml.Unmarshal(text, &config); err != nil {
			return fmt.Errorf("%s: %w", arguments[0], err)
		}
	}
	var kernel unix.Utsname
	if err := unix.Uname(&kernel); err != nil {
		return fmt.Errorf("uname: %w", err)
	}
	system := unix.ByteSliceToString(kernel.Sysname[:])
	fmt.Printf("hello-go: %s, %s (%s/%s)\n", config.Greeting, config.Name, system, runtime.GOARCH)
	return nil
}
