package event

// Events of verifications that a schedule began.
const (
	VerifyDiffers ID = 20060
	VerifyEqual   ID = 20061
	VerifyNotRun  ID = 20062
)

// verifyKinds are their part of the table.
var verifyKinds = []Kind{
	{VerifyDiffers, service, Warning, "verification found differences", "the scheduled verification of connection %1 found %2 differences, and %3 objects it could not compare", []string{"con_id", "count", "unread"},
		"see the verification log (get VerifyLogName), then: verify CON sync", VerifyEqual},
	{VerifyEqual, service, Success, "verification found all equal", "connection %1 was verified, and all is equal", []string{"con_id"}, "", 0},
	{VerifyNotRun, service, Error, "verification did not run", "the scheduled verification of connection %1 did not run: %2", []string{"con_id", "err"},
		"correct what the error names; it begins again at its next time", VerifyEqual},
}
