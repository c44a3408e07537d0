// Package logging writes one structured line for each event to standard error, in the form that the
// journal of systemd understands: "<6>disk: volume opened device=/dev/vdb cipher=aes-xts-plain64".
//
// Values go through [Value], so that a line stays one line, and what is a secret implements
// [slog.LogValuer] and prints as "[secret]".
package logging

import (
	"context"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
)

// ComponentKey is the attribute that names the part of the program; it is printed in front.
const ComponentKey = "component"

// maxValue is how long one value may get in a line; what others send us must not flood a console.
const maxValue = 512

// New returns a logger. With priorities, lines start with "<N>" as sd-daemon(3) has it; a console
// without a journal behind it is better off without.
func New(out io.Writer, priorities bool) *slog.Logger {
	return slog.New(&handler{out: out, lock: &sync.Mutex{}, priorities: priorities})
}

// For returns the logger of one part of the program.
func For(logger *slog.Logger, component string) *slog.Logger {
	return logger.With(ComponentKey, component)
}

type handler struct {
	out        io.Writer
	lock       *sync.Mutex
	priorities bool
	component  string
	attrs      string
}

func (h *handler) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

func (h *handler) WithGroup(string) slog.Handler { return h }

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := *h
	for _, attr := range attrs {
		if attr.Key == ComponentKey {
			next.component = attr.Value.String()
			continue
		}
		next.attrs += " " + attr.Key + "=" + Value(attr.Value.Resolve().String())
	}
	return &next
}

func (h *handler) Handle(_ context.Context, record slog.Record) error {
	var line strings.Builder
	if h.priorities {
		line.WriteString("<" + strconv.Itoa(priority(record.Level)) + ">")
	}
	if h.component != "" {
		line.WriteString(h.component + ": ")
	}
	line.WriteString(singleLine(record.Message))
	line.WriteString(h.attrs)
	record.Attrs(func(attr slog.Attr) bool {
		line.WriteString(" " + attr.Key + "=" + Value(attr.Value.Resolve().String()))
		return true
	})
	line.WriteString("\n")
	h.lock.Lock()
	defer h.lock.Unlock()
	_, err := io.WriteString(h.out, line.String())
	return err
}

// priority is the level of syslog(3).
func priority(level slog.Level) int {
	switch {
	case level >= slog.LevelError:
		return 3
	case level >= slog.LevelWarn:
		return 4
	default:
		return 6
	}
}

// Value renders text as one word of a line: as it is where it is plain, else quoted, and cut where it is
// too long.
func Value(text string) string {
	if len(text) > maxValue {
		text = text[:maxValue] + "…"
	}
	if text == "" {
		return `""`
	}
	for _, char := range text {
		if char <= ' ' || char == '"' || char == '=' || char == '\\' || char >= 0x7f {
			return strconv.QuoteToASCII(text)
		}
	}
	return text
}

func singleLine(text string) string {
	return strings.NewReplacer("\n", " ", "\r", " ").Replace(text)
}
