// Package fault holds the one error type that a person at the console is meant to read: what was
// refused, and what to do about it.
package fault

import (
	"errors"
	"fmt"
)

// Error is a refusal. Neither field ever holds a secret.
type Error struct {
	// Cause is one sentence that says what is wrong, with names and numbers.
	Cause string
	// Fix is the next command or edit; empty where there is none.
	Fix string
	// Err is the error that led here, or nil.
	Err error
}

func (e *Error) Error() string {
	if e.Err != nil {
		return e.Cause + ": " + e.Err.Error()
	}
	return e.Cause
}

func (e *Error) Unwrap() error { return e.Err }

// Refuse makes a refusal with a fix.
func Refuse(fix, format string, args ...any) error {
	return &Error{Cause: fmt.Sprintf(format, args...), Fix: fix}
}

// Wrap makes a refusal out of an error of a lower layer.
func Wrap(err error, fix, format string, args ...any) error {
	return &Error{Cause: fmt.Sprintf(format, args...), Fix: fix, Err: err}
}

// Fix returns the fix of the outermost refusal in err that has one.
func Fix(err error) string {
	for err != nil {
		var refusal *Error
		if !errors.As(err, &refusal) {
			return ""
		}
		if refusal.Fix != "" {
			return refusal.Fix
		}
		err = refusal.Err
	}
	return ""
}
