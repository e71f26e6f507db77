// Package restore tells of restorations and searches for orphans whose machines are killed
// at any moment, of disks that are full and of machines that are set up anew.
package restore
