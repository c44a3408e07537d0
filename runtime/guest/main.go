// Command tdx-guest is the one program of ours inside the machine: it makes or recovers keys, opens disks,
// takes secrets and issues quotes, as /etc/tdx-guest/config.json says.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"tdxvm/guest/internal/config"
	"tdxvm/guest/internal/fault"
	"tdxvm/guest/internal/logging"
)

// Exit statuses.
const (
	exitDone    = 0
	exitRefused = 1
	exitUsage   = 2
)

// command is one subcommand. Its run gets the configuration that the options name, checked.
type command struct {
	name, summary string
	run           func(ctx context.Context, conf *config.Config, log *slog.Logger) error
}

// commands is what there is, in the order of the usage text.
func commands() []command {
	return []command{
		{"check", "read the configuration and say whether it is right", runCheck},
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	status := run(ctx, os.Args[1:])
	stop()
	os.Exit(status)
}

func run(ctx context.Context, args []string) int {
	if len(args) == 0 {
		usage()
		return exitUsage
	}
	for _, each := range commands() {
		if each.name == args[0] {
			return execute(ctx, each, args[1:])
		}
	}
	usage()
	return exitUsage
}

func execute(ctx context.Context, chosen command, args []string) int {
	options := flag.NewFlagSet("tdx-guest "+chosen.name, flag.ContinueOnError)
	path := options.String("config", config.Path, "the configuration `file`")
	if err := options.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return exitDone
		}
		return exitUsage
	}
	if options.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "tdx-guest %s takes no arguments, and got %q\n", chosen.name, options.Arg(0))
		return exitUsage
	}
	log := logging.For(logging.New(os.Stderr, os.Getenv("JOURNAL_STREAM") != ""), chosen.name)
	conf, err := config.Load(*path)
	if err == nil {
		err = chosen.run(ctx, conf, log)
	}
	if err != nil {
		report(log, err)
		return exitRefused
	}
	return exitDone
}

// report says what was refused and what to do, each on its own line, so that both are readable on a console.
func report(log *slog.Logger, err error) {
	log.Error("REFUSED: " + err.Error())
	if fix := fault.Fix(err); fix != "" {
		log.Error("what to do: " + fix)
	}
}

func usage() {
	fmt.Fprintf(os.Stderr, "usage: tdx-guest COMMAND [-config FILE]\n\n")
	for _, each := range commands() {
		fmt.Fprintf(os.Stderr, "  %-8s %s\n", each.name, each.summary)
	}
}

func runCheck(_ context.Context, conf *config.Config, log *slog.Logger) error {
	log.Info("the configuration is right", "keys", len(conf.Keys), "disks", len(conf.Disks))
	return nil
}
