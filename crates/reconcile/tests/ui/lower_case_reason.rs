use setpoint_reconcile::Reason;

const BAD: Reason = Reason::new("quota exceeded");

fn main() {
    let _ = BAD;
}
