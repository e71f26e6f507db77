package repset_test

import (
	"fmt"

	"understudy/repset"
)

func Example() {
	set := repset.Set{Name: "payroll"}
	for _, line := range []string{"/srv/pay inc, rec", "/srv/pay/*.tmp exc, rec"} {
		rule, err := repset.ParseRule(line)
		if err == nil {
			err = set.Add(rule)
		}
		if err != nil {
			fmt.Println(err)
		}
	}
	rules, err := set.Compile()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(rules.Roots())
	fmt.Println(rules.Selects("/srv/pay/2026/july.dat", false), rules.Selects("/srv/pay/2026/x.tmp", false))
	to, _ := repset.Base{Dir: "/replica", Source: "alpha", Set: set.Name}.Map("/srv/pay")
	fmt.Println(to)
	fmt.Println(repset.CheckSameMachine([]repset.Pair{{From: "/srv/pay", To: "/srv/pay/copy"}}))
	// Output:
	// [/srv/pay]
	// true false
	// /replica/alpha/payroll/srv/pay
	// target path /srv/pay/copy lies inside root of the replication set /srv/pay; choose a target path that neither lies in /srv/pay nor contains it
}
