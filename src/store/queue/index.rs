use crate::store::error::StoreError;
use crate::store::tx::Tx;
use crate::types::id::Id;
pub async fn enqueue(_tx: &mut Tx, _ids: &[Id], _is_delete: bool) -> Result<(), StoreError> {
    Ok(())
}
