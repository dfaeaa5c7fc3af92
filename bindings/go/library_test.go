package grate

import "testing"

func TestAnotherLibrary(t *testing.T) {
	for library, suits := range map[int]bool{
		HeaderVersion: true, HeaderVersion + 1: true, HeaderVersion + 1000: true,
		HeaderVersion - 1: false, HeaderVersion + oneMajor: false, 0: false,
	} {
		if err := checkVersion(library); (err == nil) != suits {
			t.Errorf("version %d: %v", library, err)
		}
	}
}
