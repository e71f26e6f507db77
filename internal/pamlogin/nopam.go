//go:build !(cgo && linux)

package pamlogin

import "fmt"

// present of a program built without PAM.
func present() error {
	return fmt.Errorf("%w: this program was built without PAM", ErrUnavailable)
}

// authenticate of a program built without PAM.
func authenticate(string, []byte) (string, error) {
	return "", present()
}
